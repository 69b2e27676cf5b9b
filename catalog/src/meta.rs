//! Free pairs of text, sorted by key, in as little memory as they take: most rows have none or one.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// Most pairs for which memory is set aside on the word of a sender; more are taken as they come.
const PAIRS_EXPECTED_MAX: usize = 64;

/// Key-value pairs of a node or a service, each key once. Made rarely, read often: a tree's smallest node has room for eleven
/// pairs, and ten thousand instances with one pair each would pay five megabytes for that.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Meta(Box<[(SmolStr, SmolStr)]>);

impl Meta {
    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&SmolStr> {
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets a key's value; the one it had.
    pub fn insert(&mut self, key: SmolStr, value: SmolStr) -> Option<SmolStr> {
        match self.0.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                let mut pairs = std::mem::take(&mut self.0).into_vec();
                pairs.insert(at, (key, value));
                self.0 = pairs.into_boxed_slice();
                None
            }
        }
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs by key.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &SmolStr> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values by key.
    pub fn values(&self) -> impl Iterator<Item = &SmolStr> {
        self.0.iter().map(|(_, value)| value)
    }
}

/// The pairs by key.
pub type Iter<'a> =
    std::iter::Map<std::slice::Iter<'a, (SmolStr, SmolStr)>, fn(&'a (SmolStr, SmolStr)) -> (&'a SmolStr, &'a SmolStr)>;

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl std::ops::Index<&str> for Meta {
    type Output = SmolStr;
    fn index(&self, key: &str) -> &SmolStr {
        self.get(key).expect("the key is there, says who indexes")
    }
}

impl FromIterator<(SmolStr, SmolStr)> for Meta {
    /// Of pairs with the same key the last one stays.
    fn from_iter<I: IntoIterator<Item = (SmolStr, SmolStr)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(pairs.into_boxed_slice())
    }
}

impl<const N: usize> From<[(SmolStr, SmolStr); N]> for Meta {
    fn from(pairs: [(SmolStr, SmolStr); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl Extend<(SmolStr, SmolStr)> for Meta {
    fn extend<I: IntoIterator<Item = (SmolStr, SmolStr)>>(&mut self, more: I) {
        *self = std::mem::take(&mut self.0).into_vec().into_iter().chain(more).collect();
    }
}

impl IntoIterator for Meta {
    type Item = (SmolStr, SmolStr);
    type IntoIter = std::vec::IntoIter<(SmolStr, SmolStr)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Meta {
    type Item = (&'a SmolStr, &'a SmolStr);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Meta;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0).min(PAIRS_EXPECTED_MAX));
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect())
            }
        }
        from.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_holds_what_a_map_holds_and_is_written_like_one() {
        let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", "4"), ("a", "5")].map(|(key, value)| (key.into(), value.into()));
        let (meta, map): (Meta, BTreeMap<SmolStr, SmolStr>) = (pairs.clone().into(), pairs.clone().into());
        assert!(meta.iter().eq(map.iter()));
        let mut grown = Meta::new();
        for (key, value) in pairs {
            grown.insert(key, value);
        }
        assert_eq!(grown, meta);
        assert_eq!((meta["a"].as_str(), meta.get("c"), meta.len()), ("5", None, 3));
        let bytes = rmp_serde::to_vec_named(&meta).expect("plain data");
        assert_eq!(bytes, rmp_serde::to_vec_named(&map).expect("plain data"));
        assert_eq!(rmp_serde::from_slice::<Meta>(&bytes).expect("it was just written"), meta);
    }
}
