//! Reading the command line, and the environment behind it.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

/// Parses the command line; ends the process with 2 and a usage message where it is wrong.
///
/// An environment variable that is set but empty counts as unset, as Compose leaves it when its own side
/// is unset; for `VAULT_*` the `BAO_*` variable of the same name is taken where the first is unset.
#[must_use]
pub fn parse<A: Parser>() -> A {
    let parsed = with_last_winning(with_environment(A::command(), &is_set)).try_get_matches();
    match parsed.and_then(|matches: ArgMatches| A::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => error.exit(),
    }
}

/// A flag that is given again replaces the one before, as a Compose override needs it.
fn with_last_winning(command: Command) -> Command {
    command.args_override_self(true).mut_subcommands(with_last_winning)
}

#[expect(clippy::disallowed_methods, reason = "this is the argument parser")]
fn is_set(variable: &OsStr) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn with_environment(command: Command, is_set: &dyn Fn(&OsStr) -> bool) -> Command {
    let set_variable = |arg: Arg| {
        // A switch's variable takes what people write: 1, yes, on, true, and their opposites.
        let arg = if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg.value_parser(BoolishValueParser::new())
        } else {
            arg
        };
        let Some(variable) = arg.get_env().map(OsStr::to_owned) else { return arg };
        if is_set(&variable) { arg } else { fall_back(arg, &variable, is_set) }
    };
    command.mut_args(set_variable).mut_subcommands(|subcommand| with_environment(subcommand, is_set))
}

/// The argument with the `BAO_*` variable in its `VAULT_*` variable's place, where that is set.
///
/// An argument whose variable is empty loses it altogether, since clap would take the empty text.
fn fall_back(arg: Arg, variable: &OsStr, is_set: &dyn Fn(&OsStr) -> bool) -> Arg {
    let openbao =
        variable.to_str().and_then(|name| name.strip_prefix("VAULT_")).map(|name| format!("BAO_{name}"));
    match openbao {
        Some(openbao) if is_set(openbao.as_ref()) => arg.env(openbao),
        _ if is_empty(variable) => arg.env(None::<&str>),
        _ => arg,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the argument parser")]
fn is_empty(variable: &OsStr) -> bool {
    std::env::var_os(variable).is_some_and(|value| value.is_empty())
}

/// A duration as Vault takes it: whole seconds, or numbers with units such as `90s`, `15m`, `1h30m`.
///
/// For clap's `value_parser`, and for the manifest.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|_| "write a duration like 45s, 10m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_vault_reads_them() {
        assert_eq!(duration("3600"), Ok(Duration::from_hours(1)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration(" 250ms "), Ok(Duration::from_millis(250)));
        for wrong in ["", "soon", "-1", "1.5", "5 parsecs"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn openbao_variables_stand_in_for_unset_ones() {
        let command = || {
            Command::new("test")
                .arg(Arg::new("addr").long("addr").env("VAULT_ADDR"))
                .subcommand(Command::new("sub").arg(Arg::new("ca").long("ca").env("VAULT_CACERT")))
        };
        let only_openbao = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("BAO_"));
        let resolved = with_environment(command(), &only_openbao);
        let variable =
            |command: &Command| command.get_arguments().find_map(|arg| arg.get_env().map(OsStr::to_owned));
        assert_eq!(variable(&resolved), Some("BAO_ADDR".into()));
        assert_eq!(variable(resolved.find_subcommand("sub").unwrap()), Some("BAO_CACERT".into()));

        let both = with_environment(command(), &|_| true);
        assert_eq!(variable(&both), Some("VAULT_ADDR".into()));
    }
}
