#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Seek};
use std::sync::mpsc as std_mpsc;

use futures::FutureExt;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::*;

fn pipe() -> (std::fs::File, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    (reader.into(), writer)
}

fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes.into()
}

async fn read_to_end(mut file: std::fs::File) -> Vec<u8> {
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        all
    })
    .await
    .unwrap()
}

#[test]
fn a_pipe_is_widened_and_never_narrowed() {
    let (reader, writer) = pipe();
    widen(&writer);
    assert_eq!(rustix::pipe::fcntl_getpipe_size(&reader).unwrap(), PIPE_BYTES);
    // Only root may have wider ones; others keep what they have.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, 2 * PIPE_BYTES);
    let before = rustix::pipe::fcntl_getpipe_size(&reader).unwrap();
    widen(&writer);
    assert_eq!(rustix::pipe::fcntl_getpipe_size(&reader).unwrap(), before);
    widen(&std::fs::File::open("/dev/null").unwrap().into());
}

#[tokio::test]
async fn a_disk_that_breaks_is_no_reader_who_left() {
    // Nothing is mapped at the beginning of a process's memory: the kernel answers EIO.
    let broken = std::fs::File::options().write(true).open("/proc/self/mem").unwrap();
    let sink = Sink::new("stdout", broken.into()).unwrap();
    sink.write(Bytes::from_static(b"lost")).await;
    sink.flush().await;
    let Some(Trouble::Failed(why)) = sink.written().trouble else { panic!("{:?}", sink.written()) };
    assert!(why.starts_with("cannot write stdout: Input/output error"), "{why}");
}

#[tokio::test]
async fn bytes_arrive_in_order_and_unchanged() {
    let (reader, writer) = pipe();
    let sink = Sink::new("stdout", writer).unwrap();
    let sent = noise(3_000_001);
    let reading = tokio::spawn(read_to_end(reader));
    for piece in sent.chunks(70_001) {
        sink.write(sent.slice_ref(piece)).await;
    }
    assert_eq!(sink.flush().await, Written { written: 3_000_001, discarded: 0, trouble: None });
    drop(sink);
    assert!(reading.await.unwrap() == sent);
}

#[tokio::test]
async fn non_blocking_descriptor_loses_nothing() {
    let (reader, writer) = pipe();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let sink = Sink::new("stdout", writer).unwrap();
    let sent = noise(1 << 20);
    sink.write(sent.clone()).await;
    let reading = tokio::spawn(read_to_end(reader));
    assert_eq!(sink.flush().await.written, 1 << 20);
    drop(sink);
    assert!(reading.await.unwrap() == sent);
}

#[tokio::test]
async fn stalled_reader_holds_the_writer_back_and_loses_nothing() {
    let (reader, writer) = pipe();
    let sink = Sink::new("stdout", writer).unwrap();
    let piece = noise(1 << 20);
    // One piece sticks in the pipe, PIECES wait, and the next call is not ready, however often it is asked.
    for _ in 0..=PIECES {
        sink.write(piece.clone()).await;
    }
    let mut one_too_many = Box::pin(sink.write(piece.clone()));
    for _ in 0..100 {
        assert!(one_too_many.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert!(sink.flush().now_or_never().is_none());
    let reading = tokio::spawn(read_to_end(reader));
    one_too_many.await;
    assert_eq!(sink.flush().await.written, (PIECES as u64 + 2) << 20);
    drop(sink);
    assert!(reading.await.unwrap() == piece.repeat(PIECES + 2));
}

#[tokio::test]
async fn reader_that_leaves_is_noticed_and_the_rest_is_counted() {
    let (mut reader, writer) = pipe();
    let sink = Sink::new("stdout", writer).unwrap();
    sink.write(Bytes::from_static(b"head")).await;
    let mut head = [0; 4];
    reader.read_exact(&mut head).unwrap();
    drop(reader);
    sink.write(Bytes::from_static(b"12345")).await;
    assert_eq!(sink.flush().await, Written { written: 4, discarded: 5, trouble: Some(Trouble::ReaderLeft) });
    sink.write(Bytes::from_static(b"678")).await;
    sink.discard(2);
    assert_eq!(sink.flush().await, Written { written: 4, discarded: 10, trouble: Some(Trouble::ReaderLeft) });
}

#[tokio::test]
async fn full_disk_is_said_with_what_was_lost() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let sink = Sink::new("stderr", full.into()).unwrap();
    sink.write(noise(100)).await;
    sink.write(noise(11)).await;
    let written = sink.flush().await;
    assert_eq!((written.written, written.discarded), (0, 111));
    let Some(Trouble::Failed(why)) = written.trouble else { panic!("{:?}", written.trouble) };
    assert!(why.starts_with("cannot write stderr: No space left on device"), "{why}");
}

#[tokio::test]
async fn hook_runs_once_and_before_the_first_byte() {
    let mut file = tempfile::tempfile().unwrap();
    let (called, calls) = std_mpsc::channel();
    let sink = Sink::new("stdout", file.try_clone().unwrap().into()).unwrap();
    let voice = sink.voice();
    let hook = move || {
        voice.say(b"<");
        called.send(()).unwrap();
        std::future::ready(()).boxed()
    };
    let sink = sink.before_first_write(Box::new(hook));
    sink.write(Bytes::new()).await;
    sink.flush().await;
    assert!(calls.try_recv().is_err(), "nothing was written yet");
    sink.write(Bytes::from_static(b"a")).await;
    sink.write(Bytes::from_static(b"b")).await;
    sink.flush().await;
    assert_eq!(calls.try_iter().count(), 1);
    assert!(sink.is_mid_line());
    sink.write(Bytes::from_static(b"\n")).await;
    sink.flush().await;
    assert!(!sink.is_mid_line());
    let mut all = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut all).unwrap();
    assert_eq!(all, "<ab\n");
}

#[tokio::test]
async fn descriptor_is_closed_after_the_last_clone() {
    let (reader, writer) = pipe();
    let sink = Sink::new("stdout", writer).unwrap();
    let clone = sink.clone();
    drop(sink);
    clone.write(Bytes::from_static(b"x")).await;
    let voice = clone.voice();
    drop(clone);
    voice.say(b"y");
    drop(voice);
    assert_eq!(read_to_end(reader).await, b"xy", "the pipe ends when its last writer is closed");
}

#[tokio::test]
async fn own_words_never_wait_and_arrive_in_order_when_the_reader_is_back() {
    let (reader, writer) = pipe();
    let sink = Sink::new("stderr", writer).unwrap();
    let voice = sink.voice();
    let bytes = noise(1 << 20);
    sink.write(bytes.clone()).await;
    voice.say(b"[one]");
    sink.write(Bytes::from_static(b"more")).await;
    assert_eq!(sink.given(), ((1 << 20) + 4, true));
    voice.say(b"[two]");
    assert!(voice.is_behind());
    assert!(sink.progress().is_waiting);
    let reading = tokio::spawn(read_to_end(reader));
    assert_eq!(sink.flush().await, Written { written: (1 << 20) + 4, discarded: 0, trouble: None });
    assert!(!voice.is_behind());
    assert_eq!(sink.progress(), Progress { is_waiting: false, taken: (1 << 20) + 14 });
    drop((sink, voice));
    assert!(reading.await.unwrap() == [&bytes[..], b"[one]more[two]"].concat());
}

#[tokio::test]
async fn bytes_that_wait_for_their_turn_wait_for_the_reader() {
    let (_reader, writer) = pipe();
    let sink = Sink::new("stdout", writer).unwrap();
    let sink = sink.before_first_write(Box::new(|| std::future::pending().boxed()));
    assert!(!sink.progress().is_waiting);
    assert!(sink.write(Bytes::from_static(b"x")).now_or_never().is_none());
    assert!(sink.progress().is_waiting);
}

#[tokio::test]
async fn own_words_beyond_the_limit_are_left_out_whole_and_counted() {
    let (reader, writer) = pipe();
    let sink = Sink::new("stderr", writer).unwrap();
    let voice = sink.voice();
    // Sticks in the pipe, so that all words wait.
    sink.write(noise(1 << 20)).await;
    let word = [b'w'; 1000];
    let fit = VOICE_BYTES / word.len();
    for _ in 0..fit + 3 {
        voice.say(&word);
    }
    assert_eq!(voice.take_left_out(), None, "there is no room to say so");
    let reading = tokio::spawn(read_to_end(reader));
    voice.flushed().await;
    assert_eq!(voice.take_left_out(), Some(3));
    assert_eq!(voice.take_left_out(), None);
    drop((sink, voice));
    assert_eq!(reading.await.unwrap().len(), (1 << 20) + fit * word.len());
}

#[tokio::test]
async fn last_words_are_given_up_when_the_reader_takes_nothing() {
    let (reader, writer) = pipe();
    let sink = Sink::new("stderr", writer).unwrap();
    sink.write(noise(1 << 20)).await;
    let voice = sink.voice();
    voice.say(b"last");
    voice.flushed_within(Duration::from_millis(100)).await;
    assert!(voice.is_behind());
    let reading = tokio::spawn(read_to_end(reader));
    voice.flushed_within(Duration::from_secs(60)).await;
    assert!(!voice.is_behind());
    drop((sink, voice));
    assert!(reading.await.unwrap().ends_with(b"last"));
}

#[tokio::test]
async fn own_words_that_fail_are_no_trouble_of_the_tasks_bytes() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let sink = Sink::new("stderr", full.into()).unwrap();
    sink.voice().say(b"x");
    assert_eq!(sink.flush().await, Written { written: 0, discarded: 0, trouble: None });
}

/// A sink with a manner, into a pipe whose other end is given, too.
fn mannered(manner: Manner) -> (std::fs::File, Sink) {
    let (reader, writer) = pipe();
    let sink = Sink::new("stdout", writer).unwrap();
    sink.adopt(manner);
    (reader, sink)
}

fn copy_to(file: &std::fs::File) -> Option<(std::path::PathBuf, std::fs::File)> {
    Some(("copy".into(), file.try_clone().unwrap()))
}

fn content(file: &mut std::fs::File) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut all).unwrap();
    all
}

#[tokio::test]
async fn lines_are_dressed_and_the_file_beside_is_exact() {
    let mut file = tempfile::tempfile().unwrap();
    let shape = Shape { has_time: false, tag: Some(b"web".to_vec()), is_whole_lines: true };
    let (reader, sink) = mannered(Manner { shape, copy: copy_to(&file), ..Manner::default() });
    for piece in [&b"a"[..], b"b\nc\nd", b"e"] {
        sink.write(Bytes::from_static(piece)).await;
    }
    assert_eq!(sink.flush().await, Written { written: 7, discarded: 0, trouble: None });
    drop(sink);
    assert_eq!(read_to_end(reader).await, b"web\tab\nweb\tc\nweb\tde");
    assert_eq!(content(&mut file), b"ab\nc\nde");
}

#[tokio::test]
async fn a_time_stands_before_each_line() {
    let shape = Shape { has_time: true, ..Shape::default() };
    let (reader, sink) = mannered(Manner { shape, ..Manner::default() });
    sink.write(Bytes::from_static(b"a\nb\n")).await;
    sink.flush().await;
    drop(sink);
    let text = String::from_utf8(read_to_end(reader).await).unwrap();
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), ["a", "b"]);
    assert!(lines.iter().all(|line| humantime::parse_rfc3339(line.0).is_ok()), "{text}");
}

#[tokio::test]
async fn a_reader_that_leaves_takes_nothing_from_the_file_beside() {
    let mut file = tempfile::tempfile().unwrap();
    for shape in [Shape::default(), Shape { is_whole_lines: true, ..Shape::default() }] {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        let (reader, sink) = mannered(Manner { shape, copy: copy_to(&file), ..Manner::default() });
        drop(reader);
        let bytes = noise(1 << 20);
        for piece in bytes.chunks(100_000) {
            sink.write(bytes.slice_ref(piece)).await;
        }
        assert_eq!(sink.flush().await, Written { written: 1 << 20, discarded: 0, trouble: None });
        assert!(content(&mut file) == bytes);
    }
}

#[tokio::test]
async fn what_nobody_wants_is_not_fetched_unless_a_file_takes_it() {
    let (reader, sink) = mannered(Manner { is_mute: true, ..Manner::default() });
    assert_eq!(sink.trouble(), Some(Trouble::Unwanted));
    sink.write(Bytes::from_static(b"abc")).await;
    // Our own words have nothing to do with it.
    sink.voice().say(b"[own]");
    assert_eq!(sink.flush().await, Written { written: 0, discarded: 3, trouble: Some(Trouble::Unwanted) });
    drop(sink);
    assert_eq!(read_to_end(reader).await, b"[own]");

    let mut file = tempfile::tempfile().unwrap();
    let (reader, sink) = mannered(Manner { is_mute: true, copy: copy_to(&file), ..Manner::default() });
    sink.write(Bytes::from_static(b"abc")).await;
    assert_eq!(sink.flush().await, Written { written: 3, discarded: 0, trouble: None });
    drop(sink);
    assert_eq!((read_to_end(reader).await, content(&mut file)), (vec![], b"abc".to_vec()));
}

#[tokio::test]
async fn a_full_disk_beside_is_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (_reader, sink) = mannered(Manner { copy: Some(("out/stdout".into(), full)), ..Manner::default() });
    sink.write(Bytes::from_static(b"abc")).await;
    let written = sink.flush().await;
    assert_eq!((written.written, written.discarded), (0, 3));
    let Some(Trouble::Failed(why)) = written.trouble else { panic!("{:?}", written.trouble) };
    assert!(why.starts_with("cannot write \"out/stdout\": No space left on device"), "{why}");
}

#[tokio::test]
async fn whole_lines_of_two_streams_to_one_place_do_not_mix() {
    let (reader, writer) = pipe();
    let turn = Arc::<std::sync::Mutex<()>>::default();
    let line = |letter: u8| [vec![letter; 9_999], vec![b'\n']].concat();
    let reading = tokio::spawn(read_to_end(reader));
    let writing = [b'a', b'b'].map(|letter| {
        let sink = Sink::new("stdout", writer.try_clone().unwrap()).unwrap();
        let shape = Shape { is_whole_lines: true, ..Shape::default() };
        sink.adopt(Manner { shape, turn: Some(turn.clone()), ..Manner::default() });
        let text = Bytes::from(line(letter).repeat(100));
        tokio::spawn(async move {
            for piece in text.chunks(777) {
                sink.write(text.slice_ref(piece)).await;
            }
            sink.flush().await
        })
    });
    for writing in writing {
        assert_eq!(writing.await.unwrap().written, 1_000_000);
    }
    drop(writer);
    let all = reading.await.unwrap();
    assert_eq!(all.len(), 2_000_000);
    assert!(all.split_inclusive(|&byte| byte == b'\n').all(|got| got == line(got[0])), "a line of both");
}
