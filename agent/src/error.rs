//! How errors are told, wherever they come from.

/// An error with what is behind it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Above {
        what: &'static str,
        source: io::Error,
    }

    #[test]
    fn causes_stand_behind_what_they_caused() {
        let error = Above { what: "no snapshot", source: io::Error::other("the disk is full") };
        assert_eq!(chain(&error), "no snapshot: the disk is full");
        assert_eq!(chain(&io::Error::other("alone")), "alone");
    }
}
