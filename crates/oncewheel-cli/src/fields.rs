//! Picks a few fields out of a line of JSON and checks the rest of it without keeping anything.

use crate::scan::scan;
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
    /// Of any length, as it is written
    Integer(&'a str),
    Text(Cow<'a, str>),
    /// Something that is neither a key nor a time, in words
    Other(&'static str),
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn from_json(json: &'a str) -> Result<Self, serde_json::Error> {
        Ok(match json.as_bytes() {
            [b'"', text @ .., b'"'] if memchr::memchr(b'\\', text).is_none() => {
                Self::Text(Cow::Borrowed(&json[1..json.len() - 1]))
            }
            [b'"', ..] => Self::Text(Cow::Owned(serde_json::from_str(json)?)),
            [b'-' | b'0'..=b'9', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Self::Integer(json),
            [b'-' | b'0'..=b'9', ..] => Self::Other("a fraction, or has an exponent"),
            [b'{', ..] => Self::Other("an object"),
            [b'[', ..] => Self::Other("an array"),
            [b't', ..] => Self::Other("true"),
            [b'f', ..] => Self::Other("false"),
            _ => Self::Null,
        })
    }
}

/// The wanted fields as a tree of names, made once.
pub(crate) struct Fields<const N: usize> {
    pub(crate) root: Node,
    paths: [Path; N],
}

#[derive(Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Which of the wanted fields end here: two may be the same.
    pub(crate) wanted: Vec<usize>,
    /// At most [`DOTTED_NAMES_MAX`] for each wanted field
    pub(crate) children: Vec<Node>,
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
        let mut found = Found::default();
        if scan(line, &self.root, &mut found).is_none() {
            found = self.read_slowly(line)?;
        }
        match found.ambiguous {
            Some(index) => Err(self.paths[index].ambiguity()),
            None => Ok(found.values),
        }
    }

    /// Accepts what is rare, and finds what is wrong.
    #[cold]
    pub(crate) fn read_slowly<'a>(&self, line: &'a str) -> Result<Found<'a, N>, String> {
        let mut found = Found::default();
        let mut json = serde_json::Deserializer::from_str(line);
        json.deserialize_map(Members { node: &self.root, found: &mut found })
            .and_then(|()| json.end())
            .map_err(|error| in_words(&error))?;
        Ok(found)
    }
}

pub(crate) struct Found<'de, const N: usize> {
    pub(crate) values: [Value<'de>; N],
    /// A wanted field that was found in two readings of its path
    pub(crate) ambiguous: Option<usize>,
}

impl<const N: usize> Default for Found<'_, N> {
    fn default() -> Self {
        Self { values: [const { Value::Absent }; N], ambiguous: None }
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

    /// The value for each wanted field that ends here
    #[inline]
    pub(crate) fn keep<'de, const N: usize>(&self, value: Value<'de>, found: &mut Found<'de, N>) {
        if let [first, others @ ..] = self.wanted.as_slice() {
            others.iter().for_each(|other| found.keep(*other, value.clone()));
            found.keep(*first, value);
        }
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

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, '_, 'de, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
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

impl<'de, const N: usize> DeserializeSeed<'de> for Member<'_, '_, 'de, N> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.node.wanted.is_empty() {
            return deserializer.deserialize_any(Within(self));
        }
        // Raw, since a number would lose digits, and a string would be read once more for its
        // escapes.
        let json = <&RawValue>::deserialize(deserializer)?.get();
        if !self.node.children.is_empty() && json.starts_with('{') {
            let members = Members { node: self.node, found: self.found };
            members.deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(without_place)?;
        }
        let value = Value::from_json(json).map_err(without_place)?;
        self.node.keep(value, self.found);
        Ok(())
    }
}

impl<'de, const N: usize> Found<'de, N> {
    #[inline]
    fn keep(&mut self, index: usize, value: Value<'de>) {
        if !matches!(self.values[index], Value::Absent) {
            self.ambiguous = Some(index);
        }
        self.values[index] = value;
    }
}

/// Its line and column are those within a part of the line.
fn without_place<E: Error>(error: serde_json::Error) -> E {
    let text = error.to_string();
    E::custom(text.split(" at line 1 column").next().unwrap_or_default())
}

/// What may be an object with wanted members.
struct Within<'n, 'v, 'de, const N: usize>(Member<'n, 'v, 'de, N>);

impl<'de, const N: usize> Visitor<'de> for Within<'_, '_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Members { node: self.0.node, found: self.0.found }.visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        IgnoredAny.visit_seq(items).map(|_| ())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, const N: usize>(paths: [&str; N], line: &'a str) -> Result<[Value<'a>; N], String> {
        let paths = paths.map(|path| path.parse().unwrap());
        Fields::new(paths.each_ref()).read(line.as_bytes())
    }

    /// Whichever path reads a line, it finds the same.
    #[test]
    fn what_is_common_is_read_in_one_pass_and_what_is_rare_is_not() {
        let fields = Fields::new([&"a.b".parse().unwrap(), &"c".parse().unwrap()]);
        let deep = |depth| format!("{{\"x\":{}{},\"c\":1}}", "[".repeat(depth), "]".repeat(depth));
        for (line, is_common) in [
            (
                r#" { "a" : { "b" : -12 , "x" : [ ] } , "c" : "t\u00e9xt\n" , "y" : [1.5e-3, 0, {"z":"\\"}, true, null] } "#,
                true,
            ),
            (r#"{"c":null,"x":"12345678\"9","d":{},"e":"","f":"é12345678"}"#, true),
            (r#"{"\u0063":1}"#, false),
            (r#"{"c":1,"c":1}"#, false),
            (r#"{"c":01}"#, false),
            (r#"{"c":1.}"#, false),
            (r#"{"c":"\x"}"#, false),
            ("{\"c\":\"1234567\u{1}\"}", false),
            (r#"{"c":1,}"#, false),
            (r#"{"c":[1,]}"#, false),
            (r#"{"c":1} {}"#, false),
            (&*deep(30), true),
            (&*deep(100), false),
        ] {
            let mut found = Found::default();
            assert_eq!(scan(line, &fields.root, &mut found).is_some(), is_common, "{line}");
            if is_common {
                assert_eq!(found.values, fields.read_slowly(line).unwrap().values, "{line}");
            }
        }
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn fields_are_found_at_any_depth_and_whatever_is_around_them() {
        let line = r#"{"x":[{"a":1}],"a":{"b":{"c":"deep","d":[]},"e":-1},"b":null,"":{}} "#;
        let values = read(["a.b.c", "a.e", "b", "a.b"], line);
        assert_eq!(values, Ok([text("deep"), Value::Integer("-1"), Value::Null, Value::Other("an object")]));
        assert_eq!(read(["a.b.c.d", "x.a"], line), Ok([Value::Absent, Value::Absent]));
        for scalar in ["1", "-1", "1.5", "true", "null", "\"x\"", "\"\\n\"", "[{}]"] {
            assert_eq!(read(["a.b"], &format!("{{\"a\":{scalar}}}")), Ok([Value::Absent]), "{scalar}");
        }
    }

    #[test]
    fn one_field_can_be_wanted_twice() {
        assert_eq!(read(["a", "a"], r#"{"a":5}"#), Ok([Value::Integer("5"), Value::Integer("5")]));
    }

    #[test]
    fn escapes_are_resolved_in_names_and_values() {
        assert_eq!(read(["key"], r#"{"k\u0065y":"\u0061\"b"}"#), Ok([text("a\"b")]));
        assert!(read(["key"], r#"{"key":"\ud800"}"#).unwrap_err().contains("hex escape"));
    }

    #[test]
    fn integers_are_kept_as_they_are_written_however_long() {
        for digits in ["0", "-0", "18446744073709551616", "-170141183460469231731687303715884105728"] {
            let line = format!("{{\"a\": {digits} }}");
            assert_eq!(read(["a"], &line), Ok([Value::Integer(digits)]));
        }
        for fraction in ["1.0", "1e3", "-0.5", "1E400"] {
            let line = format!("{{\"a\":{fraction}}}");
            assert_eq!(read(["a"], &line), Ok([Value::Other("a fraction, or has an exponent")]));
        }
    }

    #[test]
    fn a_dot_leads_into_an_object_or_is_part_of_a_name() {
        for line in [r#"{"a":{"b":{"c":1}}}"#, r#"{"a.b":{"c":1}}"#, r#"{"a":{"b.c":1}}"#, r#"{"a.b.c":1}"#] {
            assert_eq!(read(["a.b.c"], line), Ok([Value::Integer("1")]), "{line}");
        }
        assert_eq!(read(["a.b", "a"], r#"{"a":{"b":1}}"#), Ok([Value::Integer("1"), Value::Other("an object")]));
    }

    #[test]
    fn a_dotted_name_that_is_there_in_two_readings_is_an_error_and_a_pointer_has_one() {
        let line = r#"{"a":{"b":1},"a.b":null,"a/~b":3}"#;
        let error = read(["a.b"], line).unwrap_err();
        assert!(error.ends_with("such as /a.b or /a/b"), "{error}");
        assert_eq!(
            read(["/a.b", "/a/b", "/a~1~0b"], line),
            Ok([Value::Null, Value::Integer("1"), Value::Integer("3")])
        );
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
        assert_eq!(read(["a.b"], r#"{"a":{"b":1},"b":2,"b":3}"#), Ok([Value::Integer("1")]));
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
