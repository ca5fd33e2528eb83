//! A hundred containers on one slave, whose eight threads read the verbs' answers.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use proto::ecp::Termination;
use proto::mesos::TaskState;

use crate::agent::Agent;
use crate::slave::{Slave, Verb};

/// Of each kind.
const HALF: usize = 50;
/// As libprocess has them on a small machine.
const READERS: usize = 8;
/// Every tenth dies of memory.
fn is_starved(number: usize) -> bool {
    number % 10 == 9
}

fn script(go: &str, number: usize) -> String {
    let end = if is_starved(number) { "exec tail /dev/zero".to_owned() } else { format!("exit {number}") };
    format!("read x < {go}; {end}")
}

/// What is told of its end.
fn assert_end(number: usize, message: &str) {
    let exited = format!("Container exited with status {}", if is_starved(number) { 137 } else { number });
    if is_starved(number) {
        assert!(message.starts_with("killed: memory limit 64 MB reached") && message.ends_with(&exited), "{message}");
    } else {
        assert_eq!(message, exited);
    }
}

const LIMIT: Duration = Duration::from_secs(240);

/// Verbs whose answers are still to be read.
#[derive(Default)]
struct Queue {
    verbs: Mutex<Option<VecDeque<(usize, Verb)>>>,
    changed: Condvar,
}

impl Queue {
    fn push(&self, number: usize, verb: Verb) {
        self.verbs.lock().unwrap().get_or_insert_default().push_back((number, verb));
        self.changed.notify_all();
    }

    fn close(&self) {
        *self.verbs.lock().unwrap() = None;
        self.changed.notify_all();
    }

    fn pop(&self) -> Option<(usize, Verb)> {
        let is_idle = |verbs: &mut Option<VecDeque<_>>| verbs.as_ref().is_some_and(VecDeque::is_empty);
        self.changed.wait_while(self.verbs.lock().unwrap(), is_idle).unwrap().as_mut().and_then(VecDeque::pop_front)
    }
}

#[test]
fn a_hundred_containers_of_both_kinds_stall_nothing_and_every_end_arrives() {
    let mut slave = Slave::new();
    slave.set("LIBPROCESS_NUM_WORKER_THREADS", &READERS.to_string());
    let executors: Vec<_> = (0..HALF).map(|number| slave.container(&format!("e{number}"))).collect();
    let tasks: Vec<_> = (0..HALF).map(|number| slave.container(&format!("t{number}"))).collect();
    let pipes: Vec<_> = executors.iter().chain(&tasks).map(|container| container.pipe("go")).collect();
    let mut agents = Vec::new();
    for (number, container) in executors.iter().enumerate() {
        container.launch(&container.custom_executor(&script("go", number)));
    }
    for (number, container) in tasks.iter().enumerate() {
        let message = container.task(&script("/mnt/mesos/sandbox/go", number));
        let agent = Agent::new(&message);
        container.launch_with(&message, &agent.variables());
        agents.push(agent);
    }
    let queue = Queue::default();
    *queue.verbs.lock().unwrap() = Some(VecDeque::new());
    let (answered, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        // A failed assertion must not leave the readers waiting.
        let closing = Closing(&queue);
        for _ in 0..READERS {
            let (queue, answered) = (&queue, answered.clone());
            scope.spawn(move || {
                while let Some((number, mut verb)) = queue.pop() {
                    // Blocks the thread, as it does the slave's.
                    let answer: Termination = verb.read_answer();
                    let _ = answered.send((number, answer, verb));
                }
            });
        }
        for (number, container) in executors.iter().chain(&tasks).enumerate() {
            queue.push(number, container.start_wait());
        }
        // All but those in slots answer while all containers live, and the threads are free again.
        let mut waiting: Vec<(usize, Termination, Verb)> = Vec::new();
        let slots = READERS / 3;
        let deadline = Instant::now() + LIMIT;
        while waiting.len() < 2 * HALF - slots {
            let left = deadline.saturating_duration_since(Instant::now());
            waiting.push(answers.recv_timeout(left).expect("the readers are not all blocked"));
        }
        assert!(waiting.iter().all(|(_, answer, _)| answer.message().is_empty() && !answer.killed));
        assert!(waiting.iter_mut().all(|(_, _, verb)| !verb.has_ended()), "they stay until the end");
        let held: Vec<usize> =
            (0..2 * HALF).filter(|number| waiting.iter().all(|(other, ..)| other != number)).collect();
        assert!(held.len() == slots && held.iter().all(|number| *number < HALF), "only executors' ends are worth it");
        for container in executors.iter().take(10).chain(tasks.iter().take(10)) {
            assert!(container.usage().mem_limit_bytes() > 0);
        }
        assert_eq!(slave.containers().len(), 2 * HALF);

        for pipe in pipes {
            pipe.write("go");
        }
        for (number, agent) in agents.iter().enumerate() {
            let (_, last) = agent.states();
            let state = if number == 0 { TaskState::TaskFinished } else { TaskState::TaskFailed };
            assert_eq!(last.state(), state);
            assert_end(number, last.message());
        }
        for _ in 0..slots {
            let (number, answer, verb) = answers.recv_timeout(LIMIT).expect("the answer that was worth waiting for");
            assert!(held.contains(&number));
            let status = if is_starved(number) { 9 } else { i32::try_from(number).unwrap() << 8 };
            assert_eq!(answer.status, Some(status));
            assert_end(number, answer.message());
            waiting.push((number, answer, verb));
        }
        for (_, _, verb) in waiting {
            assert_eq!(verb.finish().code, Some(0));
        }
        drop(closing);
    });
    assert!(slave.containers().is_empty());
}

struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
