//! A generic endpoint for the parts of the API that vaultrs does not have.

use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde_json::Value;

/// Method, path below `/v1/`, and an optional JSON body.
pub(crate) struct Plain {
    method: RequestMethod,
    path: String,
    body: Option<Value>,
}

impl Plain {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: RequestMethod::GET, path: path.into(), body: None }
    }

    pub(crate) fn list(path: impl Into<String>) -> Self {
        Self { method: RequestMethod::LIST, path: path.into(), body: None }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: RequestMethod::DELETE, path: path.into(), body: None }
    }

    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: RequestMethod::POST, path: path.into(), body: Some(body) }
    }
}

impl Endpoint for Plain {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_string().into_bytes()))
    }
}
