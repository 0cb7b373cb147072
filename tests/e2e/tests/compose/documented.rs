//! Commands of the documentation, run as they stand there.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use harness::Outcome;

use crate::engine::run;
use crate::images;
use crate::stack::Stack;

/// The page, and those of its sections that hold commands: each is the subject of a test.
const PAGES: [(&str, &[&str]); 2] = [
    ("docs/compose.md", &["From nothing"]),
    (
        "docs/operate.md",
        &[
            "Back up",
            "Restore",
            "Go back to a snapshot",
            "Move to another host",
            "Credentials, sockets, the agent",
            "bootstrap",
            "vault-root",
            "vault-keys",
            "vault-data",
            "A database",
            "elasticsearch, grafana",
            "Upgrade Vaultcrew",
            "Upgrade Vault",
            "Upgrade Vault in a cluster",
            "Several stacks on one host",
            "A Vault that exists already",
            "Dev mode",
        ],
    ),
];

/// What a section tells to do next.
pub(crate) enum Step {
    /// Commands, as they are typed.
    Commands(String),
    /// A change of one file.
    Change(Change),
}

/// Lines of a file, and what is put in their place.
pub(crate) struct Change {
    file: String,
    before: String,
    after: String,
}

/// A section's commands and changes, to be done in their order and to the last.
pub(crate) struct Procedure {
    title: &'static str,
    steps: VecDeque<Step>,
}

impl Procedure {
    /// The section of this title.
    pub(crate) fn of(page: &str, title: &'static str) -> Self {
        let (_, known) = PAGES.iter().find(|(known, _)| *known == page).unwrap();
        assert!(known.contains(&title), "{title} is not listed above");
        let mut sections = sections(page);
        let at = sections.iter().position(|(name, _)| name == title);
        let (_, steps) = sections.swap_remove(at.unwrap_or_else(|| panic!("{page} has no {title}")));
        Self { title, steps: steps.into() }
    }

    /// What is next; nothing where all is done.
    pub(crate) fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Runs the next commands for this stack.
    #[track_caller]
    pub(crate) fn run(&mut self, stack: &Stack) -> Outcome {
        self.run_with(stack, &[])
    }

    /// The same, with what the text names by way of example replaced.
    #[track_caller]
    pub(crate) fn run_with(&mut self, stack: &Stack, instead: &[(&str, &str)]) -> Outcome {
        let mut commands = self.commands();
        for (example, real) in instead {
            assert!(commands.contains(example), "{}: nothing says {example}: {commands}", self.title);
            commands = commands.replace(example, real);
        }
        let outcome = run(&mut stack.shell(&commands));
        assert!(outcome.code() == 0, "{}:\n{commands}\n{}\n{}", self.title, outcome.stderr, stack.story());
        outcome
    }

    /// Runs the next commands where these variables are not set yet.
    #[track_caller]
    pub(crate) fn run_here(&mut self, stack: &Stack, unset: &[&str]) {
        let commands = self.commands();
        let unset = unset.iter().map(|name| format!("unset {name}\n"));
        let outcome = run(&mut stack.shell(&(unset.collect::<String>() + &commands)));
        assert!(outcome.code() == 0, "{}:\n{commands}\n{}\n{}", self.title, outcome.stderr, stack.story());
    }

    fn commands(&mut self) -> String {
        match self.next() {
            Some(Step::Commands(commands)) => commands,
            _ => panic!("{} has no commands here", self.title),
        }
    }
}

impl Drop for Procedure {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.steps.is_empty(), "{} was not done to its end", self.title);
    }
}

impl Change {
    /// Of the lines of a `diff`: whose file, in the first two, and which lines of it.
    fn of(lines: &[&str]) -> Self {
        let file = |mark| lines.iter().find_map(|line| line.strip_prefix(mark)).unwrap().to_owned();
        assert_eq!(file("--- "), file("+++ "));
        let side = |mark: char| {
            let lines = lines[2..].iter().filter(|line| line.starts_with([' ', mark]));
            lines.flat_map(|line| [&line[1..], "\n"]).collect::<String>()
        };
        Self { file: file("--- "), before: side('-'), after: side('+') }
    }

    /// Makes it, in a directory; the lines must be there just once.
    pub(crate) fn make(&self, directory: &Path) {
        let path = directory.join(&self.file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(&self.before).count(), 1, "{}:\n{}\nin\n{text}", path.display(), self.before);
        fs::write(&path, text.replace(&self.before, &self.after)).unwrap();
    }
}

/// Titles, and what is to be done below each.
pub(crate) fn sections(page: &str) -> Vec<(String, Vec<Step>)> {
    let text = fs::read_to_string(images::repository().join(page)).unwrap();
    let mut sections = vec![(String::new(), Vec::new())];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut block = || lines.by_ref().take_while(|line| line.trim() != "```").collect::<Vec<_>>();
        let step = match line {
            "```console" => {
                // What begins otherwise is printed by the command.
                let typed = |line: &&str| {
                    ["$ ", "> "].iter().find_map(|mark| line.strip_prefix(mark).map(str::to_owned))
                };
                Step::Commands(
                    block().iter().filter_map(typed).flat_map(|line| [line, "\n".to_owned()]).collect(),
                )
            }
            "```diff" => Step::Change(Change::of(&block())),
            title if title.starts_with('#') => {
                sections.push((title.trim_start_matches('#').trim().replace('`', ""), Vec::new()));
                continue;
            }
            _ => continue,
        };
        sections.last_mut().unwrap().1.push(step);
    }
    sections.retain(|(_, steps)| !steps.is_empty());
    sections
}

#[test]
fn every_procedure_has_a_test() {
    for (page, tested) in PAGES {
        let written: Vec<_> = sections(page).into_iter().map(|(title, _)| title).collect();
        assert_eq!(written, tested, "{page}");
    }
}
