//! How rows and requests become bytes: MessagePack, a struct as a map of its fields' names, so that later versions may add some.
//!
//! All of it is written to and read from memory, by one type each: serde makes its code anew for every other one.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Deepest nesting that is read: rows need a handful of levels, and a field that is left out must not fill the stack.
pub(crate) const DEPTH_MAX: usize = 32;

/// Writes a value behind what is there.
pub(crate) fn pack(to: &mut Vec<u8>, value: &impl Serialize) {
    let mut packer = rmp_serde::Serializer::new(to).with_struct_map();
    value.serialize(&mut packer).expect("writing plain data to memory does not fail");
}

/// Reads a value, of an agent of another version too: fields that are not known are left out.
///
/// # Errors
/// Of MessagePack that is damaged, is no such value, or is nested deeper than 32 levels.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut unpacker = rmp_serde::Deserializer::from_read_ref(bytes);
    unpacker.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut unpacker)
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn nesting_without_end_is_an_error() {
        let nested = |levels: usize| unpack::<IgnoredAny>(&[vec![0x91; levels], vec![0xc0]].concat());
        assert!(nested(DEPTH_MAX / 2).is_ok());
        assert!(nested(100_000).is_err());
    }
}
