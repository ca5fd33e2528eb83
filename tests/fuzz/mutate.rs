//! Changes good inputs into nearly good ones, with chance that is the same in each run.

/// Gives one input after the other.
pub(crate) struct Mutator {
    seeds: Vec<Vec<u8>>,
    chance: fastrand::Rng,
}

impl Mutator {
    /// From at least one seed.
    pub(crate) fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds, chance: fastrand::Rng::with_seed(7) }
    }

    /// Some seed with one to eight changes.
    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..self.chance.usize(1..=8) {
            self.change(&mut input);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        self.seeds[self.chance.usize(..self.seeds.len())].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.chance.usize(..=input.len());
        let end = (at + self.chance.usize(1..=16)).min(input.len());
        match self.chance.u8(..8) {
            0 => input.insert(at, self.chance.u8(..)),
            1 => drop(input.drain(at..end)),
            2 => input.truncate(at),
            3 => {
                let other = self.seed();
                let from = self.chance.usize(..=other.len());
                let to = (from + self.chance.usize(1..=64)).min(other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            4 => {
                let again = input[at..end].to_vec();
                drop(input.splice(at..at, again));
            }
            5 => {
                let word = WORDS[self.chance.usize(..WORDS.len())];
                drop(input.splice(at..end, word.iter().copied()));
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = if self.chance.bool() { *byte ^ (1 << self.chance.u8(..8)) } else { self.chance.u8(..) };
                }
            }
        }
    }
}

const MAX_BYTES: usize = 8192;

/// Numbers at their limits, as wire and as text have them, and what means something to one parser or the other.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\0\0\0\0\0\0\xf8\x7f",
    b"\0\0\0\0\0\0\xf0\xff",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"9223372036854775808",
    b"1e400",
    b"NaN",
    b"..",
    b"/",
    b":",
    b"=",
    b",",
    b"\n",
    b"\"",
    b"\\u00",
    b"\\ud800",
    b"{}",
    b"[",
    b"null",
    "é\u{2028}".as_bytes(),
];
