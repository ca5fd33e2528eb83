//! One line on a terminal that changes, gone when the task's output starts or the task ends; what must stay becomes a line above.
//!
//! indicatif draws it, only when asked: no thread ticks, so nothing is drawn between the task's bytes.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Launch;
use super::canvas::Canvas;
use super::phase::Progress;
use super::text::{Narrator, PREFIX, Weight};
use crate::output::Voice;
use crate::scheduler::Time;
use crate::update::Update;

/// Fast enough to look alive, slow enough to cost nothing.
pub(super) const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// More than [`TICK_INTERVAL`] needs: every step of the launch is seen.
const FRAMES_PER_SECOND: u8 = 20;

/// Text where stderr is a terminal.
pub(super) struct Terminal {
    narrator: Narrator,
    progress: Progress,
    bar: ProgressBar,
    /// What is drawn on; `None` in tests.
    voice: Option<Voice>,
}

impl Terminal {
    pub(super) fn on_stderr(launch: Launch, voice: Voice) -> Self {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Canvas::new(voice.clone())), FRAMES_PER_SECOND);
        Self { voice: Some(voice), ..Self::on(launch, target) }
    }

    fn on(launch: Launch, target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is constant");
        // ASCII: no locale and no font can break it.
        bar.set_style(style.tick_chars("|/-\\ "));
        Self { narrator: Narrator::new(launch.clone()), progress: Progress::new(launch), bar, voice: None }
    }

    /// Shows `update` in the changing line; gives the lines that stay.
    pub(super) fn handle(&mut self, update: &Update, now: Time) -> Vec<String> {
        let was_drawn = self.is_drawn();
        self.progress.apply(update, now);
        match update {
            Update::OutputStarted | Update::Ended { .. } => self.clear(),
            _ => self.draw(now),
        }
        let stays = |weight| match weight {
            Weight::Step => false,
            Weight::Trouble => !was_drawn,
            Weight::Notice | Weight::Failure => true,
        };
        let line = self.narrator.line(update, now).filter(|line| stays(line.weight));
        line.map(|line| format!("{PREFIX}{}", line.text)).into_iter().collect()
    }

    /// Draws the line as it is at `now`, unless it is gone.
    pub(super) fn draw(&mut self, now: Time) {
        // A terminal that stands still (Ctrl-S) gets the next picture when it has taken the last.
        let is_behind = self.voice.as_ref().is_some_and(Voice::is_behind);
        if self.is_drawn() && !is_behind {
            self.bar.set_message(self.progress.line(now));
            self.bar.tick();
        }
    }

    /// Whether the line is there to be drawn.
    pub(super) fn is_drawn(&self) -> bool {
        !self.bar.is_finished()
    }

    /// Takes the line away; it never comes back.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Takes the line away while `write` writes to the same terminal.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::super::story::{self, at};
    use super::*;
    use crate::exit::Outcome;

    /// A terminal of 60 columns that remembers its last line, and all that it ever showed.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<Shown>>);

    #[derive(Debug, Default)]
    struct Shown {
        line: String,
        history: Vec<String>,
    }

    impl Screen {
        fn line(&self) -> String {
            self.0.lock().unwrap().line.trim_end().to_owned()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            60
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().line.push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().line.clear();
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            let mut shown = self.0.lock().unwrap();
            let line = shown.line.trim_end().to_owned();
            shown.history.push(line);
            Ok(())
        }
    }

    /// Draws as often as it is told to.
    fn terminal() -> (Terminal, Screen) {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), u8::MAX);
        (Terminal::on(story::launch(), target), screen)
    }

    /// What is on the screen behind the spinner, which turns at its own pace.
    fn message(screen: &Screen) -> String {
        screen.line().split_once(' ').map(|(_, message)| message.to_owned()).unwrap_or_default()
    }

    #[test]
    fn one_line_follows_the_launch_and_is_gone_when_output_starts() {
        let (mut terminal, screen) = terminal();
        let mut messages = Vec::new();
        for (now, update) in story::good() {
            assert_eq!(terminal.handle(&update, now), [] as [&str; 0]);
            messages.push(message(&screen));
        }
        let expected = [
            "connecting to m2:5050",
            "waiting for an offer for 0:00",
            "launching on a7",
            "starting on a7",
            "pulling busybox:1.36 on a7: 3/7 layers, 41/212 MB",
            "pulling busybox:1.36 on a7: 3/7 layers, 41/212 MB",
            "running on a7 for 0:00",
            "running on a7 for 0:01",
            "",
            "",
            "",
        ];
        assert_eq!(messages, expected);
        assert!(!terminal.is_drawn());
    }

    #[test]
    fn time_goes_on_with_every_draw() {
        let (mut terminal, screen) = terminal();
        terminal.handle(&story::launching(), at(0));
        terminal.handle(&story::running(), at(1));
        terminal.draw(at(13));
        assert_eq!(message(&screen), "running on a7 for 0:12");
    }

    #[test]
    fn a_line_longer_than_the_terminal_is_cut() {
        let (mut terminal, screen) = terminal();
        terminal.handle(&story::waiting(3, 7, &["mem short by 200 MB on 7 agents (best: a7)"]), at(3));
        assert_eq!(screen.line().len(), 60);
        assert!(
            message(&screen).starts_with("waiting for an offer for 0:03: 7 agents offered; mem"),
            "{}",
            screen.line()
        );
    }

    #[test]
    fn nothing_is_drawn_after_the_line_was_cleared() {
        let (mut terminal, screen) = terminal();
        terminal.handle(&story::launching(), at(0));
        terminal.clear();
        assert_eq!(screen.line(), "");
        let draws = screen.0.lock().unwrap().history.len();
        terminal.draw(at(1));
        terminal.handle(&story::running(), at(2));
        terminal.suspend(|| ());
        let shown = screen.0.lock().unwrap();
        assert!(shown.history[draws..].iter().all(String::is_empty), "{:?}", &shown.history[draws..]);
    }

    #[test]
    fn failures_stay_and_the_changing_line_goes() {
        let (mut terminal, screen) = terminal();
        terminal.handle(&story::launching(), at(0));
        let failed = Outcome::Failed("cannot pull it".to_owned());
        assert_eq!(terminal.handle(&story::ended(failed), at(1)), ["launch-container: cannot pull it"]);
        assert_eq!(screen.line(), "");
    }

    #[test]
    fn trouble_is_a_line_of_its_own_only_when_there_is_no_changing_line() {
        let (mut terminal, screen) = terminal();
        terminal.handle(&story::launching(), at(0));
        assert_eq!(terminal.handle(&story::disconnected("m2:5050 is silent"), at(1)), [] as [&str; 0]);
        assert_eq!(message(&screen), "m2:5050 is silent; trying again in 2s");
        terminal.handle(&story::subscribed(true), at(2));
        terminal.handle(&Update::OutputStarted, at(3));
        let lines = terminal.handle(&story::disconnected("m2:5050 is silent"), at(4));
        assert_eq!(lines, ["launch-container: m2:5050 is silent; trying again in 2s"]);
        let lines = terminal.handle(&story::subscribed(true), at(5));
        assert_eq!(lines, ["launch-container: connected to m2:5050 again"]);
    }

    #[test]
    fn lines_that_stay_are_written_while_the_changing_line_is_away() {
        let (mut terminal, screen) = terminal();
        terminal.handle(&story::launching(), at(0));
        let mut seen = None;
        terminal.suspend(|| seen = Some(screen.line()));
        assert_eq!(seen.as_deref(), Some(""));
        assert_eq!(message(&screen), "launching on a7");
    }
}
