//! Lines in the shapes of real files.

use std::path::Path;

use env_file::{ReadDialect, parse};

use crate::rules::deviations;

const SHAPES: &str = include_str!("../corpus/shapes.env");
const AGREE: &str = include_str!("../corpus/agree.env");

/// Each line of the corpus as a file, and whether strict reading refuses it.
fn shapes() -> Vec<(Vec<u8>, bool)> {
    let lines = SHAPES.lines().skip_while(|line| line.starts_with('#'));
    let is_title = |line: &&str| line.starts_with("# ") && !line.contains(['⏎', '=']);
    let cases = lines.filter(|line| !line.is_empty() && !is_title(line)).map(|line| {
        let (text, refused) = line.strip_prefix("! ").map_or((line, false), |text| (text, true));
        let mut text = text.to_owned();
        for (sign, meant) in [('⏎', "\n"), ('␍', "\r"), ('⇥', "\t"), ('␠', " ")] {
            text = text.replace(sign, meant);
        }
        (text.into_bytes(), refused)
    });
    cases.collect()
}

#[test]
fn shapes_are_read_as_by_the_others() {
    let files: Vec<Vec<u8>> = shapes().into_iter().map(|(file, _)| file).collect();
    assert!(files.len() > 500, "{}", files.len());
    let wrong = deviations(&files);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn what_strict_reading_refuses_is_marked() {
    for (file, refused) in shapes() {
        let read = parse(&file, Path::new(".env"), ReadDialect::Strict);
        let text = String::from_utf8_lossy(&file);
        assert_eq!(
            read.is_err(),
            refused,
            "{text}: {}",
            read.map_or_else(|errors| errors.to_string(), |_| "taken".to_owned())
        );
    }
}

/// The values beside the lines of that corpus are those that the readers give.
#[test]
fn agreed_values_are_agreed_on() {
    let wrong = deviations(&[AGREE.as_bytes().to_vec()]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
