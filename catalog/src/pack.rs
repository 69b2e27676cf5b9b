//! How rows and requests become bytes: MessagePack, a struct as a map of its fields' names, so that later versions may add some.
//!
//! All of it is written to and read from memory, by one type each: serde makes its code anew for every other one.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Deepest nesting that is read: rows need a handful of levels, and a field that is left out must not fill the stack.
const DEPTH_MAX: usize = 32;

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

/// How many bytes the first value takes, whatever it is; `None` if it does not end within these.
pub(crate) fn length_of_first(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize, width: usize| {
        let digits = bytes.get(at..at.checked_add(width)?)?;
        digits.iter().try_fold(0, |number: usize, digit| number.checked_mul(256)?.checked_add(usize::from(*digit)))
    };
    let (mut at, mut values) = (0_usize, 1_usize);
    while values > 0 {
        let marker = *bytes.get(at)?;
        let low = usize::from(marker & 0x0f);
        // what stands before the content, the bytes of the content, the values in it
        let (head, content, inside) = match marker {
            0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => (1, 0, 0),
            0x80..=0x8f => (1, 0, 2 * low),
            0x90..=0x9f => (1, 0, low),
            0xa0..=0xbf => (1, usize::from(marker & 0x1f), 0),
            0xc4 | 0xd9 => (2, number(at + 1, 1)?, 0),
            0xc5 | 0xda => (3, number(at + 1, 2)?, 0),
            0xc6 | 0xdb => (5, number(at + 1, 4)?, 0),
            0xc7 => (3, number(at + 1, 1)?, 0),
            0xc8 => (4, number(at + 1, 2)?, 0),
            0xc9 => (6, number(at + 1, 4)?, 0),
            0xcc | 0xd0 => (2, 0, 0),
            0xcd | 0xd1 => (3, 0, 0),
            0xca | 0xce | 0xd2 => (5, 0, 0),
            0xcb | 0xcf | 0xd3 => (9, 0, 0),
            0xd4..=0xd8 => (2, 1 << (marker - 0xd4), 0),
            0xdc => (3, 0, number(at + 1, 2)?),
            0xdd => (5, 0, number(at + 1, 4)?),
            0xde => (3, 0, 2 * number(at + 1, 2)?),
            0xdf => (5, 0, number(at + 1, 4)?.checked_mul(2)?),
        };
        at = at.checked_add(head)?.checked_add(content)?;
        values = (values - 1).checked_add(inside)?;
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn a_value_is_as_long_as_it_was_written() {
        let texts = [0, 31, 32, 255, 256, 70_000].map(|length| "x".repeat(length));
        let numbers = [0, 127, 128, -1, -32, -33, -128, -129, 255, 256, 65_535, 65_536, i64::from(u32::MAX), i64::MAX, i64::MIN];
        let lists = [0_usize, 15, 16, 65_536].map(|length| vec![7_u8; length]);
        let map: std::collections::BTreeMap<u32, Option<f64>> = (0..20).map(|number| (number, Some(0.5))).collect();
        let bytes = [0, 255, 256, 65_536].map(|length| bytes::Bytes::from(vec![1; length]));
        let value = (texts, numbers, lists, map, bytes, (true, (), 1.5_f32));
        let packed = rmp_serde::to_vec_named(&value).expect("plain data");
        assert_eq!(length_of_first(&packed), Some(packed.len()));
        assert_eq!(length_of_first(&[&packed[..], b"more"].concat()), Some(packed.len()));
        for end in (0..packed.len()).step_by(97).chain([packed.len() - 1]) {
            assert_eq!(length_of_first(&packed[..end]), None, "cut at {end}");
        }
        for count in 0..=u8::MAX {
            length_of_first(&[count, 0xff, 0xff, 0xff, 0xff]);
        }
        assert_eq!(length_of_first(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0]), None);
        assert_eq!(length_of_first(&[0xd8, 1, 2]), None);
        assert_eq!(length_of_first(&[0xd4, 1, 2, 9]), Some(3));
        assert_eq!(length_of_first(&[0xc7, 2, 1, 5, 5, 9]), Some(5));
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        let nested = |levels: usize| unpack::<IgnoredAny>(&[vec![0x91; levels], vec![0xc0]].concat());
        assert!(nested(DEPTH_MAX / 2).is_ok());
        assert!(nested(100_000).is_err());
    }
}
