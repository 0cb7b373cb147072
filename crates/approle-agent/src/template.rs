//! Templates: a text with the secrets in their places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Rest, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, filters};
use secrecy::{ExposeSecret as _, SecretSlice};
use zeroize::Zeroizing;

use crate::AgentError;
use crate::secrets::Secrets;

/// Longer than any configuration file.
const MAX_TEMPLATE: usize = 4 * 1024 * 1024;

/// A template's text, read once at start.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    path: PathBuf,
    text: String,
}

impl Template {
    /// Reads it, and refuses what is no template.
    pub(crate) fn load(path: &Path) -> Result<Self, AgentError> {
        let content = secret_file::read_file(path, MAX_TEMPLATE).map_err(AgentError::TemplateFile)?;
        let text = String::from_utf8(content.expose_secret().to_vec()).map_err(|_| AgentError::Template {
            path: path.to_owned(),
            line: String::new(),
            why: "it is not UTF-8 text".to_owned(),
        })?;
        let template = Self { path: path.to_owned(), text };
        let unfilled = Environment::new();
        // No value is near yet: the parser's words can be told.
        template.compiled(&unfilled).map_err(|error| {
            let why = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
            template.error(&error, why)
        })?;
        Ok(template)
    }

    /// Fills it in. Every name that is not defined is an error, unless the template says what to do without it.
    pub(crate) fn render(
        &self,
        secrets: &Arc<Secrets>,
        environment: &Arc<BTreeMap<String, String>>,
    ) -> Result<SecretSlice<u8>, AgentError> {
        let fault = Fault::default();
        let filled = filled(secrets, environment, &fault);
        let rendered = self.compiled(&filled).and_then(|template| template.render(()));
        match rendered {
            Ok(text) => Ok(SecretSlice::from(Zeroizing::new(text).as_bytes().to_vec())),
            Err(error) => Err(self.error(&error, fault.told(&error, self.line(&error)))),
        }
    }

    fn compiled<'a>(
        &'a self,
        environment: &'a Environment<'_>,
    ) -> Result<minijinja::Template<'a, 'a>, Error> {
        environment.template_from_named_str("template", &self.text)
    }

    fn error(&self, error: &Error, why: String) -> AgentError {
        let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
        AgentError::Template { path: self.path.clone(), line, why }
    }

    /// The line of the template that an error is about.
    fn line(&self, error: &Error) -> &str {
        error.line().and_then(|line| self.text.lines().nth(line - 1)).unwrap_or_default()
    }
}

/// What templates find: two functions, and filters beside those that the language has.
fn filled(
    secrets: &Arc<Secrets>,
    variables: &Arc<BTreeMap<String, String>>,
    fault: &Fault,
) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // A file is not a page: what is written is what the secret says.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // These settings contradict nothing.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }

    let (all, told) = (Arc::clone(secrets), fault.clone());
    environment.add_function("secret", move |name: &str| {
        if all.find(name).is_none() {
            return Err(told.refuse(format!("the secret {name:?} is none of those that --secret names")));
        }
        Ok(Value::from_object(Keys { secrets: Arc::clone(&all), name: name.to_owned(), fault: told.clone() }))
    });
    let (all, told) = (Arc::clone(variables), fault.clone());
    environment.add_function("env", move |name: &str| {
        if let Some(value) = all.get(name) {
            return Value::from(value.as_str());
        }
        told.missed(name, format!("the environment variable {name} is not set"));
        Value::UNDEFINED
    });
    // Whoever asks by these whether a name is there has an answer for the case that it is not.
    for name in ["default", "d"] {
        let told = fault.clone();
        environment.add_filter(name, move |state: &State, value: &Value, others: Rest<Value>| {
            let filled_in = filters::default(state, value, others)?;
            told.forgive(value.is_undefined() && !filled_in.is_undefined());
            Ok::<_, Error>(filled_in)
        });
    }
    for (name, asks) in [("defined", false), ("undefined", true)] {
        let told = fault.clone();
        environment.add_test(name, move |value: &Value| {
            told.forgive(value.is_undefined());
            value.is_undefined() == asks
        });
    }
    environment.add_filter("base64", |text: &str| STANDARD.encode(text));
    environment.add_filter("json", filters::tojson);
    environment
}

/// The keys of one secret: what `secret("user_db")` gives.
#[derive(Debug)]
struct Keys {
    secrets: Arc<Secrets>,
    name: String,
    fault: Fault,
}

impl Object for Keys {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let value = self.secrets.find(&self.name).and_then(|secret| secret.values.get(key));
        if value.is_none() {
            self.fault.missed(key, format!("the secret {} has no key {key}", self.name));
        }
        value.map(|value| Value::from(value.expose_secret()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let keys = self.secrets.find(&self.name).into_iter().flat_map(|secret| secret.values.keys());
        Enumerator::Values(keys.map(|key| Value::from(key.as_str())).collect())
    }
}

/// What went wrong, in words of ours: those of the language may quote values.
#[derive(Clone, Debug, Default)]
struct Fault(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    refused: Option<String>,
    /// The last name that was not there and that nothing has answered for since, and how to tell it.
    missed: Option<(String, String)>,
}

impl Fault {
    fn refuse(&self, why: String) -> Error {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused = Some(why);
        Error::from(ErrorKind::InvalidOperation)
    }

    fn missed(&self, name: &str, why: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).missed = Some((name.to_owned(), why));
    }

    /// The last name that was not there need not be.
    fn forgive(&self, is_forgiven: bool) {
        if is_forgiven {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).missed = None;
        }
    }

    fn told(&self, error: &Error, line: &str) -> String {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = told.missed.as_ref().filter(|(name, _)| line.contains(name.as_str()));
        match (error.kind(), &told.refused, missed) {
            (_, Some(refused), _) => refused.clone(),
            (ErrorKind::UndefinedError, _, Some((_, why))) => {
                format!("{why}; where it may be missing, write `| default(\"…\")` behind it")
            }
            (ErrorKind::UndefinedError, ..) => format!("a name in it is not defined: {}", line.trim()),
            // Their words name a function, filter or test of the template, and no value.
            (ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest, ..) => {
                error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned)
            }
            _ => format!("{}: {}", error.kind(), line.trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rendered(text: &str) -> Result<String, AgentError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.conf.tmpl");
        fs::write(&path, text).unwrap();
        let secrets = Secrets::of(&[
            ("user_db", &[("USER_DB_NAME", "users"), ("USER_DB_PASSWORD", "canary p&\"ü<")]),
            ("chat", &[("KEY", "canary-chat")]),
        ]);
        let variables = [("HOME".to_owned(), "/root".to_owned())].into();
        let content = Template::load(&path)?.render(&Arc::new(secrets), &Arc::new(variables))?;
        Ok(String::from_utf8(content.expose_secret().to_vec()).unwrap())
    }

    #[test]
    fn secrets_and_variables_are_filled_in_as_they_are() {
        for (template, filled) in [
            ("name={{ secret(\"user_db\").USER_DB_NAME }}\n", "name=users\n"),
            ("{{ secret('user_db')['USER_DB_PASSWORD'] }}", "canary p&\"ü<"),
            ("{{ env(\"HOME\") }}", "/root"),
            ("{{ secret('chat').KEY | base64 }}", "Y2FuYXJ5LWNoYXQ="),
            ("{{ secret('user_db').USER_DB_PASSWORD | urlencode }}", "canary%20p%26%22%C3%BC%3C"),
            ("{{ secret('chat').KEY | json }}", "\"canary-chat\""),
            ("{{ secret('chat').NO | default('none') }}", "none"),
            ("{{ env('NO') | default(env('HOME')) }}", "/root"),
            (
                "{% for key, value in secret('chat') | items %}{{ key }}={{ value }}{% endfor %}",
                "KEY=canary-chat",
            ),
            ("{% if secret('chat').NO is defined %}yes{% else %}no{% endif %}", "no"),
        ] {
            assert_eq!(rendered(template).unwrap(), filled, "{template}");
        }
        let json = rendered("{{ secret('user_db').USER_DB_PASSWORD | json }}").unwrap();
        assert!(json.starts_with("\"canary p") && json.ends_with('"') && json.contains("\\u0026"), "{json}");
    }

    #[test]
    fn an_error_names_file_line_and_key_and_no_value() {
        for (template, told) in [
            ("a\n{{ secret('user_db').NO }}", ":2: the secret user_db has no key NO"),
            ("{{ env('NO') }}", ":1: the environment variable NO is not set"),
            (
                "\n\n{{ secret('nobody').X }}",
                ":3: the secret \"nobody\" is none of those that --secret names",
            ),
            ("{{ secret('chat').A | default('') }}\n{{ typo }}", ":2: a name in it is not defined"),
            ("{{ secret('chat').A | default('') }} {{ typo }}", ":1: a name in it is not defined"),
            ("{{ secret('chat').A is defined }} {{ typo }}", ":1: a name in it is not defined"),
            ("{{ secret('chat').A | d(secret('user_db').B) }}", ":1: the secret user_db has no key B"),
            (
                "{{ secret('chat').A | default('') }}{{ env('B') }}",
                ":1: the environment variable B is not set",
            ),
            ("{{ secret('chat').KEY | upper_case }}", ":1: filter upper_case is unknown"),
            ("{{ secret('chat').KEY", ":1: "),
            ("{{ secret('chat').KEY | int }}", ":1: "),
            ("{{ secret('chat').KEY + 1 }}", ":1: "),
            ("{{ secret('chat').KEY.x.y }}", ":1: "),
            ("{% include 'other' %}", ":1: "),
        ] {
            let error = rendered(template).unwrap_err().to_string();
            assert!(error.contains("app.conf.tmpl") && error.contains(told), "{template}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
