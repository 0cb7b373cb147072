//! Whether a password fits what PostgreSQL keeps of it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

/// Whether the password fits this `pg_authid.rolpassword`, of the form
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; an MD5 hash fits none.
///
/// The server's half of a login (RFC 5802), played against the client's half that real logins use: both
/// prepare and stretch the password alike.
pub(crate) fn fits(password: &SecretString, verifier: &SecretString) -> bool {
    login(password.expose_secret(), verifier.expose_secret()).is_some()
}

fn login(password: &str, verifier: &str) -> Option<()> {
    let (stretching, keys) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = stretching.split_once(':')?;
    let (_, server_key) = keys.split_once(':')?;
    let server_key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(server_key).ok()?);

    let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let client_first = str::from_utf8(client.message()).ok()?.strip_prefix("n,,")?.to_owned();
    let (_, nonce) = client_first.split_once("r=")?;
    let server_first = format!("r={nonce},s={salt},i={iterations}");
    client.update(server_first.as_bytes()).ok()?;
    let client_final = str::from_utf8(client.message()).ok()?;
    let (without_proof, _) = client_final.rsplit_once(",p=")?;
    let exchanged = format!("{client_first},{server_first},{without_proof}");
    let signature = STANDARD.encode(hmac::sign(&server_key, exchanged.as_bytes()));
    client.finish(format!("v={signature}").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use postgres_protocol::password::{md5, scram_sha_256};

    fn fits(password: &str, verifier: &str) -> bool {
        super::fits(&password.into(), &verifier.into())
    }

    #[test]
    fn a_password_fits_its_own_verifier_alone() {
        // The second is changed by SASLprep, the third is refused by it and taken as it is.
        for password in ["canary", "I\u{ad}X \u{2168}", "bell \u{7}"] {
            let verifier = scram_sha_256(password.as_bytes());
            assert!(fits(password, &verifier), "{password:?}");
            assert!(!fits("another", &verifier) && !fits("", &verifier), "{password:?}");
        }
        assert!(fits("IX IX", &scram_sha_256("I\u{ad}X \u{2168}".as_bytes())));
    }

    /// Computed by Python's `hashlib` and `hmac`, from the password and salt of RFC 7677, section 3.
    #[test]
    fn the_iterations_and_salt_of_the_verifier_are_used() {
        let stored = "SCRAM-SHA-256$5000:W22ZaJ0SNY7soEsUEjb6gQ==$\
             /EC3e5ZXre2/l6rs6ZVsJE5j5w7aT7J15OmJhYPDXDE=:CXqv0nIwwfL0t5miZlCLOsfMrIQ5JTXBzhkVn7j/tmM=";
        assert!(fits("pencil", stored));
        assert!(!fits("pencil", &stored.replace("$5000:", "$4096:")));
    }

    #[test]
    fn what_is_no_verifier_fits_nothing() {
        let verifier = scram_sha_256(b"canary");
        let (cut, _) = verifier.rsplit_once(':').unwrap();
        for other in ["", "canary", cut, &md5(b"canary", "user"), "SCRAM-SHA-256$4096:!$!:!"] {
            assert!(!fits("canary", other), "{other}");
        }
    }
}
