//! The end of a stack, and of those whose tests were killed.

use std::path::Path;

use super::PROJECTS;
use crate::engine::{LABEL, docker, lines, run, told};

/// Removes what tests left that were killed.
pub(super) fn sweep() {
    let listed = told(&mut docker(["volume", "ls", "--quiet", "--filter", &format!("name={PROJECTS}")]));
    let filter = format!("name={PROJECTS}");
    let networks = told(&mut docker(["network", "ls", "--format={{.Name}}", "--filter", &filter]));
    let mut projects: Vec<_> = lines(&listed)
        .into_iter()
        .chain(lines(&networks))
        .filter_map(|name| name.split('_').next())
        .collect();
    projects.dedup();
    for project in projects {
        let process = project.trim_start_matches(PROJECTS).split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            remove(project);
        }
    }
}

/// Removes everything of one project, whatever state it is in.
pub(super) fn remove(project: &str) {
    let compose = format!("label=com.docker.compose.project={project}");
    let own = format!("label={LABEL}={project}");
    for filter in [&compose, &own] {
        let listed = told(&mut docker(["container", "ls", "--all", "--quiet", "--filter", filter]));
        if !lines(&listed).is_empty() {
            run(docker(["container", "rm", "--force", "--volumes"]).args(lines(&listed)));
        }
    }
    for kind in ["network", "volume"] {
        let filter = format!("name={project}_");
        let listed = told(&mut docker([kind, "ls", "--format={{.Name}}", "--filter", &filter]));
        if !lines(&listed).is_empty() {
            run(docker([kind, "rm"]).args(lines(&listed)));
        }
    }
}
