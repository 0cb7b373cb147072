//! The programs' images.

use std::collections::BTreeSet;
use std::fs;

use harness::Programs;
use serde_json::Value;

use crate::engine::{docker, told};
use crate::images;

/// What the engine itself puts into every container.
const ENGINES: [&str; 6] =
    [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];

#[test]
fn an_image_holds_its_program_and_nothing_else() {
    images::build();
    let programs = Programs::locate();
    let mut all = 0;
    for program in images::PROGRAMS {
        let image = images::name(program);
        let size = told(&mut docker(["image", "inspect", "--format={{.Size}}", &image]));
        let size: u64 = size.trim().parse().unwrap();
        let own = fs::metadata(programs.path(program)).unwrap().len();
        assert!(size < own + 50_000, "{program}: {size} bytes, of which the program has {own}");
        all += size;

        let told_of = told(&mut docker(["image", "inspect", "--format={{json .Config}}", &image]));
        let config: Value = serde_json::from_str(&told_of).unwrap();
        assert_eq!(config["Labels"]["org.opencontainers.image.title"], program);
        assert!(config["User"].as_str().unwrap().starts_with('5'), "{program} runs as {}", config["User"]);
        // db-init ends when it is done.
        let healthcheck = [format!("/bin/{program}"), "healthcheck".to_owned()];
        let healthcheck =
            (program != "db-init").then(|| serde_json::json!(["CMD", healthcheck[0], healthcheck[1]]));
        assert_eq!(config.pointer("/Healthcheck/Test").cloned(), healthcheck, "{program}");

        let label = format!("--label={}", crate::engine::LABEL);
        let container = told(&mut docker(["create", &label, &image]));
        let export = format!("\"$0\" export {} | tar -t", container.trim());
        let mut list = std::process::Command::new("sh");
        let listed = told(list.args(["-c", &export]).arg(harness::docker().unwrap()));
        told(&mut docker(["rm", container.trim()]));
        let files: BTreeSet<&str> =
            listed.lines().filter(|path| !path.ends_with('/') && !ENGINES.contains(path)).collect();
        assert_eq!(files, [format!("bin/{program}").as_str()].into(), "{program}");
    }
    println!("all four: {}.{} MB", all / 1_000_000, all % 1_000_000 / 100_000);
    let are_shipped = programs.path("unsealer").components().any(|part| part.as_os_str() == "release");
    assert!(!are_shipped || all <= 20_000_000, "{all} bytes");
}
