//! Sets of numbers as inclusive ranges. Normal form: ascending, with a gap between each two.

use crate::mesos::value::Range;

/// Any ranges in normal form; one that ends before it begins is empty.
pub(super) fn normalized(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|range| range.begin <= range.end);
    ranges.sort_unstable_by_key(|range| range.begin);
    ranges.dedup_by(|next, last| {
        let joins = last.end.checked_add(1).is_none_or(|after| next.begin <= after);
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    ranges
}

/// What is in either.
pub(super) fn union(a: &[Range], b: &[Range]) -> Vec<Range> {
    normalized([a, b].concat())
}

/// What is in both, of normal forms.
pub(super) fn intersection(a: &[Range], b: &[Range]) -> Vec<Range> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        let (begin, end) = (left.begin.max(right.begin), left.end.min(right.end));
        if begin <= end {
            both.push(Range { begin, end });
        }
        if left.end < right.end {
            a.next()
        } else {
            b.next()
        };
    }
    both
}

/// What is in `a` and not in `b`, of normal forms.
pub(super) fn difference(a: &[Range], b: &[Range]) -> Vec<Range> {
    let mut rest = Vec::new();
    for range in a {
        let mut begin = Some(range.begin);
        for taken in b {
            let Some(from) = begin.filter(|&from| taken.end >= from && taken.begin <= range.end) else { continue };
            if taken.begin > from {
                rest.push(Range { begin: from, end: taken.begin - 1 });
            }
            begin = taken.end.checked_add(1).filter(|&after| after <= range.end);
        }
        rest.extend(begin.map(|begin| Range { begin, end: range.end }));
    }
    rest
}

/// Whether all of `b` is in `a`, of normal forms.
pub(super) fn contains(a: &[Range], b: &[Range]) -> bool {
    b.iter().all(|inner| a.iter().any(|outer| outer.begin <= inner.begin && inner.end <= outer.end))
}

/// How many numbers; saturates.
pub(super) fn count(ranges: &[Range]) -> u64 {
    let lengths = ranges.iter().map(|range| (range.end - range.begin).saturating_add(1));
    lengths.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Vec<Range> {
        pairs.iter().map(|&(begin, end)| Range { begin, end }).collect()
    }

    #[test]
    fn neighbours_join_and_the_largest_number_is_no_trap() {
        let joined = normalized(ranges(&[(5, 9), (1, 2), (3, 4), (20, 10), (8, 8)]));
        assert_eq!(joined, ranges(&[(1, 9)]));
        let all = ranges(&[(0, u64::MAX)]);
        assert_eq!(normalized(ranges(&[(7, u64::MAX), (0, 9)])), all);
        assert_eq!(difference(&all, &ranges(&[(3, u64::MAX)])), ranges(&[(0, 2)]));
        assert_eq!(count(&all), u64::MAX);
    }

    fn small() -> impl Strategy<Value = Vec<Range>> {
        let range = (0..40u64, 0..6u64).prop_map(|(begin, more)| Range { begin, end: begin + more });
        prop::collection::vec(range, 0..6).prop_map(normalized)
    }

    fn numbers(ranges: &[Range]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|range| range.begin..=range.end).collect()
    }

    proptest! {
        #[test]
        fn ranges_compute_as_the_sets_they_stand_for(a in small(), b in small()) {
            let (left, right) = (numbers(&a), numbers(&b));
            for (result, set) in [
                (union(&a, &b), &left | &right),
                (intersection(&a, &b), &left & &right),
                (difference(&a, &b), &left - &right),
            ] {
                prop_assert_eq!(numbers(&result), set);
                prop_assert_eq!(normalized(result.clone()), result);
            }
            prop_assert_eq!(contains(&a, &b), left.is_superset(&right));
            prop_assert_eq!(count(&a), left.len() as u64);
        }
    }
}
