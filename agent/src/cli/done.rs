//! How a command that did not fail may end.

/// A command that succeeded, yet with something a script may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Exit code 0.
    Well,
    /// `members` found none: exit code 2, as Consul's.
    NoneFound,
    /// The program that `lock` ran failed, and that was to be told: exit code 2, as Consul's.
    ChildFailed,
}
