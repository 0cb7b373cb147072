//! What to do about the files, which somebody may be writing at this moment. Pure.

use crate::inputs::Inputs;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Nothing.
    Rest,
    /// Look again in a moment: they have changed since the last look, and may not be whole yet.
    LookAgain,
    /// Apply them.
    Apply,
}

/// A token as far as one is told from another: a digest of it.
pub(super) type TokenMark = Option<String>;

/// What is known about the files.
#[derive(Debug)]
pub(super) struct Files {
    /// As they were applied.
    pub(super) applied: Option<Inputs>,
    /// As they were at the last look.
    seen: Option<Inputs>,
    /// With which content and by which token it was seen that they cannot be applied, and told.
    told: Option<(Inputs, TokenMark)>,
    is_ordered: bool,
}

impl Files {
    /// They are to be applied in any case: so begins every run.
    pub(super) fn new(applied: Option<Inputs>) -> Self {
        Self { applied, seen: None, told: None, is_ordered: true }
    }

    /// Somebody wants them applied now, as they are.
    pub(super) fn order(&mut self) {
        self.is_ordered = true;
    }

    /// What to do, now that they are `now` and there is this token.
    pub(super) fn course(&mut self, now: &Inputs, token: &TokenMark) -> Course {
        let is_settled = self.seen.replace(now.clone()).as_ref() == Some(now);
        if self.is_ordered {
            return Course::Apply;
        }
        if self.applied.as_ref() == Some(now) || self.is_told(now, token) {
            return Course::Rest;
        }
        if is_settled { Course::Apply } else { Course::LookAgain }
    }

    /// They are applied.
    pub(super) fn applied(&mut self, now: Inputs) {
        *self = Self { seen: Some(now.clone()), is_ordered: false, ..Self::new(Some(now)) };
    }

    /// They cannot be applied: nothing more is done until they, or the token, are others, or somebody orders it.
    pub(super) fn told(&mut self, now: Inputs, token: TokenMark) {
        self.is_ordered = false;
        self.told = Some((now, token));
    }

    /// Whether they are known to say something else than what was applied.
    pub(super) fn differ(&self) -> bool {
        self.applied.is_some() && self.seen.is_some() && self.applied != self.seen
    }

    fn is_told(&self, now: &Inputs, token: &TokenMark) -> bool {
        self.told.as_ref().is_some_and(|(files, by)| files == now && by == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(digest: &str) -> Inputs {
        serde_json::from_value(serde_json::json!({ ".env": digest })).unwrap()
    }

    fn root() -> (TokenMark, TokenMark) {
        (None, Some("root".to_owned()))
    }

    #[test]
    fn a_run_begins_with_an_apply_and_rests_until_the_files_have_changed_and_are_whole() {
        let ((_, root), first, second) = (root(), inputs("1"), inputs("2"));
        let mut files = Files::new(None);
        assert_eq!(files.course(&first, &root), Course::Apply);
        files.applied(first.clone());
        assert_eq!(files.course(&first, &root), Course::Rest);

        assert_eq!(files.course(&inputs("half of 2"), &root), Course::LookAgain);
        assert_eq!(files.course(&second, &root), Course::LookAgain);
        assert!(files.differ());
        assert_eq!(files.course(&second, &root), Course::Apply);
        // Vault was away: it is tried again.
        assert_eq!(files.course(&second, &root), Course::Apply);
        files.applied(second.clone());
        assert_eq!(files.course(&second, &root), Course::Rest);
        assert!(!files.differ());
    }

    #[test]
    fn what_cannot_be_applied_is_told_once_for_each_change_and_each_token() {
        let ((none, root), first, second) = (root(), inputs("1"), inputs("2"));
        let mut files = Files::new(Some(first.clone()));
        files.applied(first.clone());
        files.course(&second, &none);
        assert_eq!(files.course(&second, &none), Course::Apply);
        files.told(second.clone(), None);
        assert_eq!(files.course(&second, &none), Course::Rest);
        // Root is there again.
        assert_eq!(files.course(&second, &root), Course::Apply);
        files.told(second.clone(), root.clone());
        assert_eq!(files.course(&second, &root), Course::Rest);
        // Somebody insists.
        files.order();
        assert_eq!(files.course(&second, &root), Course::Apply);
        files.told(second, root.clone());
        // As before.
        assert_eq!(files.course(&first, &root), Course::Rest);
        assert!(!files.differ());
    }
}
