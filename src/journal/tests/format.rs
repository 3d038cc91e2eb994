//! The bytes, compared with `docs/journal-format.md`.

use crate::Fingerprint;
use crate::journal::record::{
    FRAME_HEADER_BYTES, Frames, HEADER_BYTES, Header, Item, Kind, Mark, encode_entry, encode_frame,
};
use crate::key::KeyHasher;

/// The example in the document: lines of `offset  bytes in hexadecimal`, in its only `hex` block.
fn documented() -> Vec<u8> {
    let document = include_str!("../../../docs/journal-format.md");
    let (_, example) = document.split_once("```hex\n").expect("the document has an example");
    let (example, _) = example.split_once("```").expect("which ends");
    let mut bytes = Vec::new();
    for line in example.lines() {
        let mut words = line.split_whitespace();
        let offset = words.next().and_then(|offset| usize::from_str_radix(offset, 16).ok()).expect("an offset");
        assert_eq!(offset, bytes.len(), "{line}");
        bytes.extend(words.map(|byte| u8::from_str_radix(byte, 16).expect("two digits")));
    }
    bytes
}

fn example() -> Vec<u8> {
    let secret = KeyHasher::new(std::array::from_fn(|byte| byte as u8));
    let mut bytes = Vec::new();
    Header::new(0x0123_4567_89ab_cdef, 1_795_302_000_000, &secret).encode(&mut bytes);
    let mut keys = Vec::new();
    encode_entry((secret.fingerprint(b"order-1"), 1_795_302_291_895), &mut keys);
    encode_entry((secret.fingerprint(b"order-2"), 1_795_302_291_896), &mut keys);
    let mark = Mark { kind: Kind::Keys, sequence: 1, watermark: 1_795_302_290_000 };
    encode_frame(0x0123_4567_89ab_cdef, &mark, &keys, &mut bytes);
    let mut tombstones = Vec::new();
    encode_entry((secret.fingerprint(b"order-1"), 1_795_302_291_896), &mut tombstones);
    let mark = Mark { kind: Kind::Removed, sequence: 2, watermark: 1_795_302_290_000 };
    encode_frame(0x0123_4567_89ab_cdef, &mark, &tombstones, &mut bytes);
    bytes
}

#[test]
fn the_bytes_are_as_documented() {
    let bytes = example();
    let lines = bytes.chunks(16).enumerate().map(|(line, bytes)| {
        let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04x}  {}\n", line * 16, bytes.join(" "))
    });
    assert_eq!(documented(), bytes, "the example should be\n{}", lines.collect::<String>());
}

#[test]
fn what_is_encoded_is_read_back() {
    let bytes = example();
    let header = Header::decode(&bytes).unwrap();
    assert_eq!((header.salt, header.created), (0x0123_4567_89ab_cdef, 1_795_302_000_000));
    let frames: Vec<_> = Frames::new(&bytes, HEADER_BYTES, header.salt).collect();
    let [Item::Frame(keys), Item::Frame(removed)] = &*frames else { panic!("{frames:?}") };
    assert_eq!((keys.mark.kind, keys.mark.sequence, keys.entries().len()), (Kind::Keys, 1, 2));
    assert_eq!(removed.mark.watermark, 1_795_302_290_000);
    assert_eq!(removed.entries().next().map(|(_, time)| time), Some(1_795_302_291_896));
    assert_eq!(keys.bytes(), FRAME_HEADER_BYTES + 48);
    assert!(Frames::new(&bytes, HEADER_BYTES, 0).all(|item| matches!(item, Item::Damage { .. })), "another salt");
}

/// An adversary who chooses keys can write many bytes into a segment. They must not be read as a
/// frame: the salt is random.
#[test]
fn a_key_that_looks_like_a_frame_is_not_read_as_one() {
    let mut inner = Vec::new();
    let mark = Mark { kind: Kind::Keys, sequence: 9, watermark: 0 };
    encode_frame(1, &mark, &[], &mut inner);
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| inner[at + byte]));
    let mut keys = Vec::new();
    encode_entry((Fingerprint([word(0), word(8)]), word(16)), &mut keys);
    encode_entry((Fingerprint([word(24), 0]), 0), &mut keys);
    let mut bytes = Vec::new();
    encode_frame(2, &mark, &keys, &mut bytes);
    bytes[0] ^= 1; // so that the reader searches for the next frame
    let items: Vec<_> = Frames::new(&bytes, 0, 2).collect();
    assert!(matches!(&*items, [Item::Damage { .. }]), "{items:?}");
}
