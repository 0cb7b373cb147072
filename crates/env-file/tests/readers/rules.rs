//! What has to hold between our reader and the others.

use std::path::Path;

use env_file::{Fault, ParseErrors, ReadDialect, parse};
use secrecy::ExposeSecret as _;

use crate::oracle::{Answers, Read, Values, ask};

/// Asks all about each file, and gives a line for each that is read otherwise than it must be.
pub(crate) fn deviations(files: &[Vec<u8>]) -> Vec<String> {
    let answers = ask(files);
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let said: Vec<(&Answers, &Read)> =
            answers.iter().map(|answers| (answers, &answers.read[index])).collect();
        for wrong in [strict(file, &said), compose(file, &said)].into_iter().flatten() {
            found.push(format!("{:?}: {wrong}", String::from_utf8_lossy(file)));
        }
    }
    found
}

/// A value that strict reading takes is what every reader takes; and what every reader takes, it takes.
fn strict(file: &[u8], said: &[(&Answers, &Read)]) -> Option<String> {
    match ours(file, ReadDialect::Strict) {
        Ok(taken) => {
            let differs = |(answers, read): &&(&Answers, &Read)| match read {
                Some(values) => *values != taken,
                None => !answers.may_give_up(),
            };
            let (other, read) = said.iter().find(differs)?;
            Some(format!("strict takes {taken:?}, and {} {read:?}", other.reader))
        }
        Err(errors) => {
            let (_, first) = said.first()?;
            let agreed = first.as_ref().filter(|_| said.iter().all(|(_, read)| read == first))?;
            let is_free = agreed.values().all(Option::is_some);
            (is_free && !errors.iter().all(|error| by_rule(&error.fault)))
                .then(|| format!("all take {agreed:?}, and strict says {errors}"))
        }
    }
}

/// What is refused although the readers agree, here: with other variables in their environments, after the next
/// edit, or in the next version they would not.
fn by_rule(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Dollar
            | Fault::Reference
            | Fault::QuotedReference
            | Fault::UnusualBlank
            | Fault::LoneCarriageReturn
            | Fault::BackslashBeforeQuote
            | Fault::Duplicate { .. }
    )
}

/// The dialect `compose` is Compose, except that nothing comes from the environment.
fn compose(file: &[u8], said: &[(&Answers, &Read)]) -> Option<String> {
    let ours = ours(file, ReadDialect::Compose);
    said.iter().filter(|(answers, _)| answers.is_compose()).find_map(|(answers, read)| {
        let agrees = match (&ours, read) {
            (Ok(taken), Some(values)) => taken == values,
            (Ok(_), None) => false,
            (Err(_), None) => true,
            (Err(errors), Some(_)) => errors.iter().any(|error| stricter(&error.fault, file)),
        };
        let told = ours.as_ref().map_err(ToString::to_string);
        (!agrees).then(|| format!("compose reads {told:?}, and {} {read:?}", answers.reader))
    })
}

/// What Compose takes and the dialect does not: what needs the environment, names that no environment should
/// have, what reads as several keys and can only have been meant as one value, and a reference that it closes by
/// the brace of another one.
fn stricter(fault: &Fault, file: &[u8]) -> bool {
    let count = |sign: &str| String::from_utf8_lossy(file).matches(sign).count();
    match fault {
        Fault::InvalidReference => count("${") > count("}"),
        Fault::Undefined { .. }
        | Fault::NoEquals
        | Fault::NoKey
        | Fault::InvalidKey
        | Fault::UnquotedBlock
        | Fault::TextAfterQuote
        | Fault::Nul => true,
        _ => false,
    }
}

pub(crate) fn ours(file: &[u8], dialect: ReadDialect) -> Result<Values, ParseErrors> {
    let read = parse(file, Path::new(".env"), dialect)?;
    let pair = |entry: &env_file::Entry| (entry.key.clone(), Some(entry.value.expose_secret().to_owned()));
    Ok(read.entries().iter().map(pair).collect())
}
