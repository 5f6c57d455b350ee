//! Joining waiting chunks into one post, if the handler allows it.

use podwork_protocol::RawValue;

/// A string or an array that several chunks are joined into.
#[derive(Debug)]
pub(crate) struct Joined {
    kind: JoinKind,
    /// The JSON text so far, without the closing quote or bracket.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinKind {
    Text,
    List,
}

impl JoinKind {
    const fn close(self) -> char {
        match self {
            Self::Text => '"',
            Self::List => ']',
        }
    }

    /// Returns the kind of a chunk and the text between its quotes or brackets, or `None` if the chunk cannot be
    /// joined.
    fn of(chunk: &RawValue) -> Option<(Self, &str)> {
        let text = chunk.get();
        let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
        match text.as_bytes().first()? {
            b'"' => Some((Self::Text, inside('"', '"')?)),
            b'[' => Some((Self::List, inside('[', ']')?.trim_ascii())),
            _ => None,
        }
    }
}

impl Joined {
    /// Starts with the chunk `first`. Returns `None` if it is neither a string nor an array.
    pub(crate) fn begin(first: &RawValue) -> Option<Self> {
        let (kind, inside) = JoinKind::of(first)?;
        let open = if kind == JoinKind::Text { '"' } else { '[' };
        Some(Self {
            kind,
            text: format!("{open}{inside}"),
        })
    }

    /// Adds a chunk of the same kind, unless the result would exceed `limit` bytes. Returns whether the chunk was
    /// added.
    pub(crate) fn add(&mut self, next: &RawValue, limit: usize) -> bool {
        let Some((kind, inside)) = JoinKind::of(next) else {
            return false;
        };
        let comma = kind == JoinKind::List && self.text.len() > 1 && !inside.is_empty();
        if kind != self.kind || self.text.len() + usize::from(comma) + inside.len() + 1 > limit {
            return false;
        }
        if comma {
            self.text.push(',');
        }
        self.text.push_str(inside);
        true
    }

    /// Returns the joined chunk.
    pub(crate) fn end(mut self) -> serde_json::Result<Box<RawValue>> {
        self.text.push(self.kind.close());
        RawValue::from_string(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(chunks: &[&str], limit: usize) -> (String, usize) {
        let chunks: Vec<Box<RawValue>> = chunks
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        let mut joined = Joined::begin(&chunks[0]).unwrap();
        let added = chunks[1..]
            .iter()
            .take_while(|chunk| joined.add(chunk, limit))
            .count();
        (joined.end().unwrap().get().to_owned(), added)
    }

    #[test]
    fn queued_text_chunks_are_joined_and_list_chunks_appended() {
        let quoted = [r#""a\"""#, r#""""#, r#""\u00e9é""#];
        assert_eq!(joined(&quoted, 100), (r#""a\"\u00e9é""#.to_owned(), 2));
        let lists = ["[ ]", "[1, 2]", "[]", "[ [3] ]"];
        assert_eq!(joined(&lists, 100), ("[1, 2,[3]]".to_owned(), 3));
    }

    #[test]
    fn chunks_of_different_kinds_are_not_joined_and_the_limit_holds() {
        assert_eq!(joined(&[r#""a""#, "[1]"], 100).1, 0);
        assert_eq!(joined(&["[1]", "{}"], 100).1, 0);
        assert_eq!(joined(&["[1]", "[2]", "[3]"], 5), ("[1,2]".to_owned(), 1));
        assert_eq!(joined(&[r#""a""#, r#""b""#], 4), (r#""ab""#.to_owned(), 1));
        assert_eq!(joined(&[r#""a""#, r#""b""#], 3).1, 0);
        let number: Box<RawValue> = serde_json::from_str("1").unwrap();
        assert!(Joined::begin(&number).is_none());
    }
}
