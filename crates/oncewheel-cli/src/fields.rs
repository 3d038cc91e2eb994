//! Picks a few fields out of a line of JSON and checks the rest of it without keeping anything.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A dotted name is looked for in each of the `2^(n - 1)` ways to read its dots.
const DOTTED_NAMES_MAX: usize = 8;

/// Where a field is, as the user names it.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    text: String,
    /// From the outermost object inwards
    names: Vec<String>,
    /// A JSON pointer (RFC 6901), which has one meaning. The dots of other paths lead into nested
    /// objects or are part of a name.
    is_pointer: bool,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = |names, is_pointer| Self { text: text.to_owned(), names, is_pointer };
        if let Some(pointer) = text.strip_prefix('/') {
            let names = pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
            return Ok(path(names.collect(), true));
        }
        let names: Vec<_> = text.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err("name a field, such as key; or payload.id for one in a nested object".to_owned());
        }
        if names.len() > DOTTED_NAMES_MAX {
            return Err(format!("too many dots: write /{} for nested objects", names.join("/")));
        }
        Ok(path(names, false))
    }
}

impl Path {
    /// Each list of names that the path can mean.
    fn readings(&self) -> Vec<Vec<String>> {
        if self.is_pointer {
            return vec![self.names.clone()];
        }
        let (first, others) = self.names.split_first().expect("a path has a name");
        others.iter().fold(vec![vec![first.clone()]], |readings, name| {
            let nested = readings.iter().map(|reading| [reading.as_slice(), std::slice::from_ref(name)].concat());
            let joined = readings.iter().map(|reading| {
                let mut reading = reading.clone();
                reading.last_mut().expect("a reading has a name").extend([".", name]);
                reading
            });
            nested.chain(joined).collect()
        })
    }

    fn ambiguity(&self) -> String {
        let (text, nested) = (&self.text, self.names.join("/"));
        format!(
            "the field {text:?} is there twice, with a dot in a name and in a nested object: say which with a JSON \
             pointer, such as /{text} or /{nested}"
        )
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a field holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value<'a> {
    #[default]
    Absent,
    Null,
    Unsigned(u64),
    Negative(i64),
    /// An integer as it is written: -0, or beyond 64 bits
    Digits(&'a str),
    Text(Cow<'a, str>),
    /// Something that is neither a key nor a time, in words
    Other(&'static str),
}

impl<'a> Value<'a> {
    /// Of digits, after a minus if there is one
    pub(crate) fn integer(text: &'a str) -> Self {
        match (text.parse(), text.parse()) {
            (Ok(number), _) => Self::Unsigned(number),
            (_, Ok(number @ ..0)) => Self::Negative(number),
            _ => Self::Digits(text),
        }
    }
}

/// The wanted fields as a tree of names, made once.
pub(crate) struct Fields<const N: usize> {
    root: Node,
    paths: [Path; N],
}

#[derive(Default)]
struct Node {
    name: String,
    /// Which of the wanted fields end here: two may be the same.
    wanted: Vec<usize>,
    /// At most [`DOTTED_NAMES_MAX`] for each wanted field
    children: Vec<Node>,
}

impl<const N: usize> Fields<N> {
    pub(crate) fn new(paths: [&Path; N]) -> Self {
        const { assert!(N * DOTTED_NAMES_MAX <= u64::BITS as usize, "one bit for each child of a node") };
        let mut root = Node::default();
        for (index, path) in paths.into_iter().enumerate() {
            for reading in path.readings() {
                let leaf = reading.iter().fold(&mut root, |node, name| node.child(name));
                leaf.wanted.push(index);
            }
        }
        Self { root, paths: paths.map(Path::clone) }
    }

    /// The values of the wanted fields, in the order of the paths.
    ///
    /// The whole line must be one JSON object in UTF-8. No name on the way to a wanted field may be
    /// there twice, and no dotted name in two readings: which one is meant is unknown.
    pub(crate) fn read<'a>(&self, line: &'a [u8]) -> Result<[Value<'a>; N], String> {
        // With its newline, an error at the end would be one of the next line.
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = str::from_utf8(line).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
        let mut found = Found::new(Numbers::Converted);
        if self.find(line, &mut found).is_err() {
            // Wrong, or it has a number that is rare.
            found = Found::new(Numbers::AsWritten);
            self.find(line, &mut found).map_err(|error| in_words(&error))?;
        }
        match found.ambiguous {
            Some(index) => Err(self.paths[index].ambiguity()),
            None => Ok(found.values),
        }
    }

    fn find<'a>(&self, line: &'a str, found: &mut Found<'a, N>) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(line);
        json.deserialize_map(Members { node: &self.root, found })?;
        json.end()
    }
}

/// How numbers are read on the way to a wanted field, and there.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// An error for those that would lose digits
    Converted,
    /// Slower: each value is passed over before it is read
    AsWritten,
}

struct Found<'de, const N: usize> {
    values: [Value<'de>; N],
    /// A wanted field that was found in two readings of its path
    ambiguous: Option<usize>,
    numbers: Numbers,
}

impl<'de, const N: usize> Found<'de, N> {
    fn new(numbers: Numbers) -> Self {
        Self { values: [const { Value::Absent }; N], ambiguous: None, numbers }
    }

    #[inline]
    fn keep(&mut self, index: usize, value: Value<'de>) {
        if !matches!(self.values[index], Value::Absent) {
            self.ambiguous = Some(index);
        }
        self.values[index] = value;
    }
}

impl Node {
    fn child(&mut self, name: &str) -> &mut Node {
        let index = self.children.iter().position(|child| child.name == name).unwrap_or_else(|| {
            self.children.push(Node { name: name.to_owned(), ..Node::default() });
            self.children.len() - 1
        });
        &mut self.children[index]
    }
}

/// Without the line's number, which is always 1.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string().replace(" at line 1 column 0", "").replace(" at line 1 column ", " at column ");
    if error.is_data() { text } else { format!("not JSON: {text}") }
}

/// The members of the object that belongs to a node.
struct Members<'n, 'v, 'de, const N: usize> {
    node: &'n Node,
    found: &'v mut Found<'de, N>,
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, '_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let children = &self.node.children;
        let mut seen = 0_u64;
        while let Some(child) = map.next_key_seed(Name { among: children })? {
            let Some(index) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & 1 << index != 0 {
                return Err(A::Error::custom(format_args!("the field {:?} is there twice", children[index].name)));
            }
            seen |= 1 << index;
            map.next_value_seed(Member { node: &children[index], found: self.found })?;
        }
        Ok(())
    }
}

/// The name of a member: which of the wanted ones it is.
struct Name<'n> {
    among: &'n [Node],
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.among.iter().position(|node| node.name == name))
    }
}

/// The value of a member: kept if it is wanted, searched if something within it is.
struct Member<'n, 'v, 'de, const N: usize> {
    node: &'n Node,
    found: &'v mut Found<'de, N>,
}

impl<'de, const N: usize> Member<'_, '_, 'de, N> {
    /// The value for each wanted field that ends here
    #[inline]
    fn keep<E>(self, value: Value<'de>) -> Result<(), E> {
        if let [first, others @ ..] = self.node.wanted.as_slice() {
            others.iter().for_each(|other| self.found.keep(*other, value.clone()));
            self.found.keep(*first, value);
        }
        Ok(())
    }
}

impl<'de, const N: usize> DeserializeSeed<'de> for Member<'_, '_, 'de, N> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.found.numbers == Numbers::Converted {
            return deserializer.deserialize_any(self);
        }
        let json = <&RawValue>::deserialize(deserializer)?.get();
        match json.as_bytes() {
            [b'-' | b'0'..=b'9', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
                self.keep(Value::integer(json))
            }
            [b'-' | b'0'..=b'9', ..] => self.keep(Value::Other("a fraction, or has an exponent")),
            _ => serde_json::Deserializer::from_str(json).deserialize_any(self).map_err(without_place),
        }
    }
}

/// Its line and column are those within a part of the line.
fn without_place<E: Error>(error: serde_json::Error) -> E {
    let text = error.to_string();
    E::custom(text.split(" at line 1 column").next().unwrap_or_default())
}

impl<'de, const N: usize> Visitor<'de> for Member<'_, '_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.keep(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.keep(Value::Other(if value { "true" } else { "false" }))
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.keep(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.keep(Value::Negative(value))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("a number to be read as it is written"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.keep(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.keep(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        IgnoredAny.visit_seq(items)?;
        self.keep(Value::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Members { node: self.node, found: &mut *self.found }.visit_map(map)?;
        self.keep(Value::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, const N: usize>(paths: [&str; N], line: &'a str) -> Result<[Value<'a>; N], String> {
        let paths = paths.map(|path| path.parse().unwrap());
        Fields::new(paths.each_ref()).read(line.as_bytes())
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn fields_are_found_at_any_depth_and_whatever_is_around_them() {
        let line = r#"{"x":[{"a":1}],"a":{"b":{"c":"deep","d":[]},"e":-1},"b":null,"":{}} "#;
        let values = read(["a.b.c", "a.e", "b", "a.b"], line);
        assert_eq!(values, Ok([text("deep"), Value::Negative(-1), Value::Null, Value::Other("an object")]));
        assert_eq!(read(["a.b.c.d", "x.a"], line), Ok([Value::Absent, Value::Absent]));
        let deep = format!("{{\"x\":{}{},\"a\":null}}", "[".repeat(1_000), "]".repeat(1_000));
        assert_eq!(read(["a"], &deep), Ok([Value::Null]));
        for scalar in ["1", "-1", "1.5", "true", "null", "\"x\"", "\"\\n\"", "[{}]"] {
            assert_eq!(read(["a.b"], &format!("{{\"a\":{scalar}}}")), Ok([Value::Absent]), "{scalar}");
        }
    }

    #[test]
    fn one_field_can_be_wanted_twice() {
        assert_eq!(read(["a", "a"], r#"{"a":5}"#), Ok([Value::Unsigned(5), Value::Unsigned(5)]));
    }

    #[test]
    fn escapes_are_resolved_in_names_and_values() {
        assert_eq!(read(["key"], r#"{"k\u0065y":"\u0061\"b"}"#), Ok([text("a\"b")]));
        assert!(read(["key"], r#"{"key":"\ud800"}"#).unwrap_err().contains("hex escape"));
    }

    #[test]
    fn integers_are_kept_however_long_they_are() {
        for (digits, integer) in [
            ("0", Value::Unsigned(0)),
            ("18446744073709551615", Value::Unsigned(u64::MAX)),
            ("-9223372036854775808", Value::Negative(i64::MIN)),
        ] {
            let line = format!("{{\"a\": {digits} }}");
            assert_eq!(read(["a"], &line), Ok([integer.clone()]));
            assert_eq!(Value::integer(digits), integer);
        }
        for digits in ["-0", "18446744073709551616", "-9223372036854775809", &"9".repeat(400)] {
            let line = format!("{{\"a\": {digits} }}");
            assert_eq!(read(["a"], &line), Ok([Value::Digits(digits)]));
        }
        for fraction in ["1.0", "1e3", "-0.5", "1E400"] {
            let line = format!("{{\"a\":{fraction}}}");
            assert_eq!(read(["a"], &line), Ok([Value::Other("a fraction, or has an exponent")]));
            assert_eq!(read(["a.b"], &line), Ok([Value::Absent]));
        }
    }

    /// It makes the line be read in another way.
    #[test]
    fn beside_a_long_integer_all_else_is_read_the_same() {
        let paths = ["l", "a.b.c", "a.e", "f", "g", "h", "a.b"];
        let line = r#"{"l":1,"a":{"b":{"c":"deep","d":[]},"e":-1},"f":"\n","g":null,"h":7}"#;
        let mut values = read(paths, line).unwrap();
        values[0] = Value::Digits("-0");
        assert_eq!(read(paths, &line.replacen('1', "-0", 1)), Ok(values));
        assert!(read(["l", "a.b"], r#"{"l":-0,"a":{"b":1,"b":1}}"#).unwrap_err().contains("\"b\" is there twice"));
        assert!(read(["l", "a.b"], r#"{"l":-0,"a":{"b":1},"a.b":1}"#).unwrap_err().ends_with("/a.b or /a/b"));
    }

    #[test]
    fn a_dot_leads_into_an_object_or_is_part_of_a_name() {
        for line in [r#"{"a":{"b":{"c":1}}}"#, r#"{"a.b":{"c":1}}"#, r#"{"a":{"b.c":1}}"#, r#"{"a.b.c":1}"#] {
            assert_eq!(read(["a.b.c"], line), Ok([Value::Unsigned(1)]), "{line}");
        }
        assert_eq!(read(["a.b", "a"], r#"{"a":{"b":1}}"#), Ok([Value::Unsigned(1), Value::Other("an object")]));
    }

    #[test]
    fn a_dotted_name_that_is_there_in_two_readings_is_an_error_and_a_pointer_has_one() {
        let line = r#"{"a":{"b":1},"a.b":null,"a/~b":3}"#;
        let error = read(["a.b"], line).unwrap_err();
        assert!(error.ends_with("such as /a.b or /a/b"), "{error}");
        assert_eq!(read(["/a.b", "/a/b", "/a~1~0b"], line), Ok([Value::Null, Value::Unsigned(1), Value::Unsigned(3)]));
    }

    #[test]
    fn a_path_that_names_nothing_or_has_too_many_readings_is_refused() {
        for text in ["", ".", "a..b", "a."] {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
        assert!("1.2.3.4.5.6.7.8".parse::<Path>().is_ok() && "/1/2/3/4/5/6/7/8/9".parse::<Path>().is_ok());
        assert!("1.2.3.4.5.6.7.8.9".parse::<Path>().unwrap_err().contains("write /1/2/3/4/5/6/7/8/9"));
    }

    #[test]
    fn a_name_that_is_there_twice_is_an_error_only_on_the_way_to_a_wanted_field() {
        assert!(read(["a.b"], r#"{"a":{"b":1},"a":{}}"#).unwrap_err().contains("\"a\" is there twice"));
        assert!(read(["a.b"], r#"{"a":{"b":1,"b":1}}"#).unwrap_err().contains("\"b\" is there twice"));
        assert!(read(["a.b", "a"], r#"{"a":{"b":1,"b":1}}"#).unwrap_err().contains("\"b\" is there twice"));
        assert_eq!(read(["a.b"], r#"{"a":{"b":1},"b":2,"b":3}"#), Ok([Value::Unsigned(1)]));
    }

    #[test]
    fn what_is_not_one_json_object_is_an_error_that_says_where() {
        for (line, what) in [
            ("{\"a\":1", "EOF while parsing an object at column 6"),
            ("{} {}", "trailing characters at column 4"),
            ("[1]", "expected a JSON object"),
            ("17", "expected a JSON object"),
            ("{\"b\":tru}", "expected ident at column 9"),
            ("{\"b\":\"\u{1}\"}", "control character"),
        ] {
            let error = read(["a"], line).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
    }
}
