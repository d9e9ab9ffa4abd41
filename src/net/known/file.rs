//! The book on disk: one small file beside the spool, only its owner's to read, whole or not at all.
//!
//! ```text
//! umbel knows 1 ‹SHA-256 of what follows›
//! {"salt": …, "upstreams": {…}}
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::book::Book;

const NAME: &str = "known";
const HEAD: &str = "umbel knows 1 ";
/// Octets that are read at most: several times what a full book takes.
const BYTES_MAX: u64 = 64 << 20;

/// The book in a directory; `None`: there is none.
///
/// # Errors
/// It cannot be read, or is not what was written.
pub fn read(directory: &Path) -> Result<Option<Book>, String> {
    let mut bytes = Vec::new();
    match File::open(directory.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(file) => file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(|e| e.to_string())?,
    };
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("it has no first line")?;
    let (head, body) = bytes.split_at_checked(end + 1).ok_or("it has no first line")?;
    if head != first_line(body).as_bytes() {
        return Err("its first line does not fit what follows, or is of another version".to_owned());
    }
    serde_json::from_slice(body).map(Some).map_err(|e| e.to_string())
}

fn first_line(body: &[u8]) -> String {
    let digest: String = Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect();
    format!("{HEAD}{digest}\n")
}

/// Writes it, whole or not at all, and on disk when this returns.
///
/// # Errors
/// The disk's.
pub fn write(directory: &Path, book: &Book) -> io::Result<()> {
    let body = serde_json::to_vec(book)?;
    let draft = directory.join("known.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(first_line(&body).as_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&draft, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::net::known::verifier::Verifier;
    use crate::net::spool::testing::Dir;

    fn book() -> Book {
        let mut book = Book::new([7; 16]);
        book.accepted(("default", "127.0.0.1:5672"), "app", &Verifier([9; 32]), Some(b"/".to_vec()), 1 << 60);
        book
    }

    #[test]
    fn a_book_is_read_as_it_was_written_and_is_its_owner_s_alone() {
        let dir = Dir::new("known");
        assert_eq!(read(dir.path()), Ok(None));
        write(dir.path(), &book()).unwrap();
        assert_eq!(read(dir.path()), Ok(Some(book())));
        let mode = dir.path().join(NAME).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_or_has_a_wrong_octet_is_not_believed() {
        let dir = Dir::new("known-damaged");
        write(dir.path(), &book()).unwrap();
        let file = dir.path().join(NAME);
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(read(dir.path()).is_err(), "cut at {cut}");
            let mut wrong = whole.clone();
            wrong[cut] ^= 4;
            fs::write(&file, &wrong).unwrap();
            assert!(read(dir.path()).is_err(), "flipped at {cut}");
        }
    }
}
