//! Which metrics are shown: Consul's `prefix_filter` and `filter_default`.

/// Prefixes of whole names (`consul.raft.`), shown or hidden. The longest that fits decides.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// Longest first; in the letters that Prometheus allows, so that one list serves both forms.
    prefixes: Vec<(String, bool)>,
    default: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self::new([], true)
    }
}

impl Filter {
    /// From pairs (shown, prefix), and what holds for names that no prefix fits. Of a prefix given twice, hiding wins.
    pub(crate) fn new(prefixes: impl IntoIterator<Item = (bool, String)>, default: bool) -> Self {
        let mut prefixes: Vec<_> = prefixes.into_iter().map(|(shown, prefix)| (flat(&prefix), shown)).collect();
        prefixes.sort_by(|(a, a_shown), (b, b_shown)| b.len().cmp(&a.len()).then(a_shown.cmp(b_shown)));
        Self { prefixes, default }
    }

    /// Whether a name, dotted or as Prometheus writes it, is shown.
    pub(super) fn shows(&self, name: &str) -> bool {
        if self.prefixes.is_empty() {
            return self.default;
        }
        let name = flat(name);
        self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(self.default, |(_, shown)| *shown)
    }

    /// Prometheus' text without the metrics that are hidden. What the process tells by itself (`process_…`) stays.
    pub(super) fn text(&self, text: String) -> String {
        if self.prefixes.is_empty() && self.default {
            return text;
        }
        let mut kept = String::with_capacity(text.len());
        for block in text.split_inclusive("\n\n") {
            let mut words = block.split_ascii_whitespace();
            let name = words.nth(2).unwrap_or_default();
            if name.starts_with("process_") || self.shows(name) {
                kept.push_str(block);
            }
        }
        kept
    }
}

/// A name in the letters that Prometheus allows.
fn flat(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(list: &[&str], default: bool) -> Filter {
        Filter::new(list.iter().map(|word| (word.starts_with('+'), word[1..].to_owned())), default)
    }

    #[test]
    fn the_longest_prefix_decides_and_else_the_default() {
        let some = filter(&["-consul.raft", "+consul.raft.apply"], true);
        assert!(some.shows("consul.raft.apply") && !some.shows("consul.raft.commitTime") && some.shows("consul.kvs.apply"));
        let few = filter(&["+consul.raft"], false);
        assert!(few.shows("consul.raft.apply") && !few.shows("consul.kvs.apply"));
        assert!(!filter(&["+consul.kvs", "-consul.kvs"], true).shows("consul.kvs.apply"));
    }

    #[test]
    fn blocks_of_text_go_with_their_name() {
        let text = "# HELP consul_a_b is good\n# TYPE consul_a_b counter\nconsul_a_b 1\n\n# TYPE consul_c gauge\nconsul_c 2\n\n";
        assert_eq!(filter(&["-consul.a"], true).text(text.to_owned()), "# TYPE consul_c gauge\nconsul_c 2\n\n");
        assert_eq!(filter(&[], true).text(text.to_owned()), text);
        assert_eq!(filter(&[], false).text(text.to_owned()), "");
    }
}
