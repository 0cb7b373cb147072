//! The requests of bootstrap, alone: what the server bears.

use std::time::Duration;

use harness::{Api, wait_until};
use serde_json::{Value, json};

use super::stack::{Stack, policy, service, values};
use super::{side_by_side, timed};
use crate::error::Result;

/// Everything that a first apply asks for and writes. Gives the accessors of the secret IDs too.
pub(super) fn first(stack: &Stack) -> Result<(Duration, Vec<String>)> {
    let mut accessors = Vec::new();
    let time = timed(|| {
        let api = stack.api();
        let write = |path: &str, body: &Value| api.expect("POST", path, stack.token(), body);
        write("/v1/sys/mounts/secret", &json!({"type": "kv", "options": {"version": "2"}}))?;
        write("/v1/sys/auth/approle", &json!({"type": "approle"}))?;
        let config = || api.expect("GET", "/v1/secret/config", stack.token(), &Value::Null);
        if !wait_until(Duration::from_secs(10), || config().is_ok()) {
            config()?;
        }
        accessors = side_by_side(|number| make(&api, stack.token(), number))?;
        Ok(())
    })?;
    Ok((time, accessors))
}

fn make(api: &Api, token: &str, number: usize) -> Result<String> {
    let name = service(number);
    let write = |path: &str, body: &Value| api.expect("POST", path, token, body);
    let secret = json!({"data": values(number).collect::<serde_json::Map<_, _>>(), "options": {"cas": 0}});
    write(&format!("/v1/secret/data/{name}"), &secret)?;
    let note = json!({"custom_metadata": {"vaultcrew-applied-version": "1"}});
    write(&format!("/v1/secret/metadata/{name}"), &note)?;
    write(&format!("/v1/sys/policies/acl/{name}-policy"), &json!({"policy": policy(number)}))?;
    let role = json!({
        "token_policies": [format!("{name}-policy")], "token_ttl": "1h", "token_max_ttl": "4h", "secret_id_ttl": "1h",
    });
    write(&format!("/v1/auth/approle/role/{name}"), &role)?;
    api.expect("GET", &format!("/v1/auth/approle/role/{name}/role-id"), token, &Value::Null)?;
    let issued = write(&format!("/v1/auth/approle/role/{name}/secret-id"), &json!({}))?;
    Ok(issued["data"]["secret_id_accessor"].as_str().unwrap_or_default().to_owned())
}

/// Everything that an apply reads before it can say that nothing differs. What no list of the server tells, each
/// service is asked for: the settings of its role, its `role_id`, and whether its secret ID still lives.
pub(super) fn second(stack: &Stack, accessors: &[String]) -> Result<Duration> {
    timed(|| {
        let api = stack.api();
        for list in ["sys/policies/detailed/acl", "secret/detailed-metadata", "auth/approle/role"] {
            api.expect("LIST", &format!("/v1/{list}"), stack.token(), &Value::Null)?;
        }
        side_by_side(|number| {
            let role = format!("/v1/auth/approle/role/{}", service(number));
            api.expect("GET", &role, stack.token(), &Value::Null)?;
            api.expect("GET", &format!("{role}/role-id"), stack.token(), &Value::Null)?;
            let accessor = json!({"secret_id_accessor": accessors[number]});
            api.expect("POST", &format!("{role}/secret-id-accessor/lookup"), stack.token(), &accessor)?;
            Ok(())
        })?;
        Ok(())
    })
}
