//! A pull parser made push: serde_json, which asks a blocking reader for bytes, is fed whatever
//! bytes there happen to be.
//!
//! The parser runs inside a generator, on a reader that yields when it is out of bytes. To the
//! parser a read takes a while; to its feeder the parser is a function from a chunk of bytes to the
//! documents that the chunk completes. Neither was changed.

use std::cell::RefCell;
use std::io::{self, Cursor, Read};

use hebra::{Generator, GeneratorState, Yielder};
use serde_json::{Deserializer, Value};

/// The documents that were completed since the last chunk.
type Documents = RefCell<Vec<Value>>;

/// A reader of the chunks that the generator is resumed with. An empty chunk is the end.
struct Chunks<'a> {
    y: &'a Yielder<Vec<u8>, Vec<Value>>,
    chunk: Cursor<Vec<u8>>,
    documents: &'a Documents,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.chunk.read(buffer)?;
        if read > 0 || buffer.is_empty() || self.chunk.get_ref().is_empty() {
            return Ok(read);
        }
        // The parser is some calls above this line. It stays there until more bytes come in.
        self.chunk = Cursor::new(self.y.yield_(self.documents.take()));
        self.chunk.read(buffer)
    }
}

/// Takes chunks of bytes, yields the documents they complete, and returns the last ones at the end,
/// or at the first error.
fn parser() -> Generator<Vec<u8>, Vec<Value>, serde_json::Result<Vec<Value>>> {
    Generator::new(|y, first| {
        let documents = Documents::default();
        let reader = Chunks {
            y,
            chunk: Cursor::new(first),
            documents: &documents,
        };
        for document in Deserializer::from_reader(reader).into_iter() {
            documents.borrow_mut().push(document?);
        }
        Ok(documents.take())
    })
}

/// Feeds `text` in chunks of these sizes, over and over, and prints what comes of each.
fn feed(text: &str, sizes: &[usize]) {
    let mut parser = parser();
    let mut rest = text.as_bytes();
    for size in sizes.iter().cycle() {
        let (chunk, later) = rest.split_at((*size).min(rest.len()));
        rest = later;
        let shown = String::from_utf8_lossy(chunk).into_owned();
        match parser.resume(chunk.to_vec()) {
            GeneratorState::Yielded(documents) => {
                documents
                    .iter()
                    .for_each(|document| println!("{shown:?} completes {document}"));
            }
            GeneratorState::Complete(Ok(documents)) => {
                documents
                    .iter()
                    .for_each(|document| println!("the end completes {document}"));
                return;
            }
            GeneratorState::Complete(Err(error)) => {
                return println!("{shown:?} is refused: {error}");
            }
        }
    }
}

fn main() {
    feed(
        r#"{"id": 1, "tags": ["a", "b"]} [2, 3.5, null]"first" 4"#,
        &[3, 1, 7, 2, 13, 5],
    );
    feed(r#"{"id": 1} {"id" 2}"#, &[8]);
}
