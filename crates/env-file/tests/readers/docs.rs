//! The table of docs/env-files.md, cell by cell.

use std::path::Path;

use env_file::ReadDialect;

use crate::oracle::{Answers, Read, ask};
use crate::rules::ours;
use crate::written::docker::Image;

const PAGE: &str = include_str!("../../../../docs/env-files.md");
const HEADER: &str =
    "| in the file | Compose | python-dotenv | dotenvy | docker run | strict |\n|---|---|---|---|---|---|\n";

#[test]
fn the_table_is_what_the_readers_do() {
    let (_, table) = PAGE.split_once(HEADER).expect("the table");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 50, "{}", rows.len());
    let shapes: Vec<&str> = rows.iter().map(|row| row.split('`').nth(1).unwrap()).collect();
    let files: Vec<Vec<u8>> = shapes
        .iter()
        .map(|shape| (shape.replace('⏎', "\n").replace('⇥', "\t") + "\n").into_bytes())
        .collect();
    let answers = ask(&files);
    let docker = Image::of_nothing();
    let mut seen = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let of = |reader: &str| {
            let versions = answers.iter().filter(|answers| answers.reader.contains(reader));
            versions.map(|answers: &Answers| cell(&answers.read[index])).collect::<Vec<_>>()
        };
        let strict = ours(&files[index], ReadDialect::Strict).ok();
        let cells = [
            versions(of("docker-compose")),
            versions(of("python-dotenv")),
            versions(of("dotenvy")),
            cell(&by_docker(&docker, &files[index])),
            cell(&strict),
        ];
        seen.push(format!("| `{shape}` | {} |", cells.join(" | ")));
    }
    let (page, seen) = (rows.join("\n"), seen.join("\n"));
    assert!(page == seen, "the table must be\n{seen}");
}

/// What the versions of a reader do, the oldest first.
fn versions(mut cells: Vec<String>) -> String {
    cells.dedup();
    cells.join(", newer ")
}

fn cell(read: &Read) -> String {
    let Some(values) = read else { return "*refuses*".to_owned() };
    let mut told: Vec<String> = values
        .iter()
        .filter_map(|(key, value)| {
            let value = value.as_ref()?;
            let shown = if value.is_empty() {
                "empty".to_owned()
            } else {
                format!("`{}`", value.replace('\n', "⏎").replace('\t', "⇥"))
            };
            Some(if key.starts_with('A') { shown } else { format!("`{key}`: {shown}") })
        })
        .collect();
    if told.is_empty() {
        told.push("*nothing*".to_owned());
    }
    told.join(", ")
}

fn by_docker(image: &Image, file: &[u8]) -> Read {
    let on_disk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(on_disk.path(), file).unwrap();
    let pairs = image.environment(Path::new(on_disk.path()))?;
    let pair = |pair: &String| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), Some(value.to_owned()))
    };
    Some(pairs.iter().map(pair).collect())
}
