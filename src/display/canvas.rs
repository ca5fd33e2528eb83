//! What indicatif draws on: escape sequences, collected to whole pictures, for a stream that nobody may wait for.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::TermLike;

use crate::output::Voice;

/// Where the terminal does not say how wide it is.
const DEFAULT_WIDTH: u16 = 80;

/// A terminal on our stderr, behind a [`Voice`].
#[derive(Debug)]
pub(super) struct Canvas {
    voice: Voice,
    picture: Mutex<String>,
}

impl Canvas {
    pub(super) fn new(voice: Voice) -> Self {
        Self { voice, picture: Mutex::default() }
    }

    fn picture(&self) -> MutexGuard<'_, String> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, text: &str) -> io::Result<()> {
        self.picture().push_str(text);
        Ok(())
    }

    fn move_cursor(&self, count: usize, direction: char) -> io::Result<()> {
        if count > 0 { self.draw(&format!("\x1b[{count}{direction}")) } else { Ok(()) }
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
        size.ok().map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(text)?;
        self.draw("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let picture = std::mem::take(&mut *self.picture());
        if !picture.is_empty() {
            self.voice.say(picture.as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::output::Sink;

    #[tokio::test]
    async fn a_picture_is_said_whole_when_it_is_complete() {
        use std::io::{Read, Seek};
        let mut file = tempfile::tempfile().unwrap();
        let sink = Sink::new("stderr", file.try_clone().unwrap().into()).unwrap();
        let canvas = Canvas::new(sink.voice());
        canvas.clear_line().unwrap();
        canvas.write_str("ab").unwrap();
        canvas.move_cursor_up(1).unwrap();
        canvas.move_cursor_left(0).unwrap();
        sink.flush().await;
        assert_eq!(file.metadata().unwrap().len(), 0);
        canvas.flush().unwrap();
        canvas.flush().unwrap();
        sink.flush().await;
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\r\x1b[2Kab\x1b[1A");
    }
}
