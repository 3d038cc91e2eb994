//! Picks a few fields out of a line of JSON and checks the rest of it without keeping anything.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Where a field lies: names from the outermost object inwards.
#[derive(Clone, Debug)]
pub(crate) struct Path(Vec<String>);

impl FromStr for Path {
    type Err = &'static str;

    fn from_str(dotted: &str) -> Result<Self, Self::Err> {
        let names: Vec<_> = dotted.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err("name a field, such as key, or payload.id for one in a nested object");
        }
        Ok(Self(names))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
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
    Text(Cow<'a, str>),
    /// Something that is neither a key nor a time, in words
    Other(&'static str),
}

/// The wanted fields as a tree of names, made once.
pub(crate) struct Fields<const N: usize> {
    root: Node,
}

#[derive(Default)]
struct Node {
    name: String,
    /// Which of the wanted fields end here: two may be the same.
    wanted: Vec<usize>,
    /// At most as many as there are wanted fields.
    children: Vec<Node>,
}

impl<const N: usize> Fields<N> {
    pub(crate) fn new(paths: [&Path; N]) -> Self {
        const { assert!(N <= 8, "one bit of a byte for each child of a node") };
        let mut root = Node::default();
        for (index, path) in paths.into_iter().enumerate() {
            let leaf = path.0.iter().fold(&mut root, |node, name| node.child(name));
            leaf.wanted.push(index);
        }
        Self { root }
    }

    /// The values of the wanted fields, in the order of the paths.
    ///
    /// The whole line must be one JSON object in UTF-8, and no name on the way to a wanted field may be there twice:
    /// which of the two is meant, nobody knows.
    pub(crate) fn read<'a>(&self, line: &'a [u8]) -> Result<[Value<'a>; N], String> {
        // With its newline, an error at the end would be one of the next line.
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = str::from_utf8(line).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
        let mut values = [const { Value::Absent }; N];
        let mut json = serde_json::Deserializer::from_str(line);
        json.deserialize_map(Members { node: &self.root, values: &mut values })
            .and_then(|()| json.end())
            .map_err(|error| in_words(&error))?;
        Ok(values)
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

/// There is only one line, so that its number says nothing.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string().replace(" at line 1 column 0", "").replace(" at line 1 column ", " at column ");
    if error.is_data() { text } else { format!("not JSON: {text}") }
}

/// The members of the object that belongs to a node.
struct Members<'n, 'v, 'de> {
    node: &'n Node,
    values: &'v mut [Value<'de>],
}

impl<'de> Visitor<'de> for Members<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let children = &self.node.children;
        let mut seen = 0_u8;
        while let Some(child) = map.next_key_seed(Name { among: children })? {
            let Some(index) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & 1 << index != 0 {
                return Err(A::Error::custom(format_args!("the field {:?} is there twice", children[index].name)));
            }
            seen |= 1 << index;
            map.next_value_seed(Member { node: &children[index], values: self.values })?;
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
struct Member<'n, 'v, 'de> {
    node: &'n Node,
    values: &'v mut [Value<'de>],
}

impl<'de> Member<'_, '_, 'de> {
    fn keep<E>(self, value: Value<'de>) -> Result<(), E> {
        if let [first, others @ ..] = self.node.wanted.as_slice() {
            others.iter().for_each(|other| self.values[*other] = value.clone());
            self.values[*first] = value;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, '_, 'de> {
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

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.keep(Value::Other("a fraction, or too large a number"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.keep(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.keep(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.keep(Value::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Members { node: self.node, values: &mut *self.values }.visit_map(map)?;
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
    }

    #[test]
    fn one_field_can_be_wanted_twice() {
        assert_eq!(read(["a", "a"], r#"{"a":5}"#), Ok([Value::Unsigned(5), Value::Unsigned(5)]));
    }

    #[test]
    fn escapes_are_resolved_in_names_and_values() {
        assert_eq!(read(["key"], r#"{"k\u0065y":"\u0061\"b"}"#), Ok([text("a\"b")]));
    }

    #[test]
    fn a_name_that_is_there_twice_is_an_error_only_on_the_way_to_a_wanted_field() {
        assert!(read(["a.b"], r#"{"a":{"b":1},"a":{}}"#).unwrap_err().contains("\"a\" is there twice"));
        assert!(read(["a.b"], r#"{"a":{"b":1,"b":1}}"#).unwrap_err().contains("\"b\" is there twice"));
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
