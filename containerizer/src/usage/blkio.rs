//! What a container has read from disks and written to them: operations and bytes of each device, by their kind.

use std::collections::BTreeMap;
use std::path::Path;

use proto::mesos::cgroup_info::blkio::throttling::Statistics as OfDevice;
use proto::mesos::cgroup_info::blkio::{Operation, Statistics, Value};
use proto::mesos::device::Number;

use super::read;

/// A line is `MAJOR:MINOR KIND NUMBER`; the last one is their sum, which has no device.
pub(super) fn of_v1(group: &Path) -> Option<Statistics> {
    // What nested groups do counts for the container; older kernels sum up nothing.
    let of = |name: &str| read(&group.join(format!("{name}_recursive"))).or_else(|| read(&group.join(name)));
    let mut devices = BTreeMap::new();
    let bytes = of("blkio.throttle.io_service_bytes")?;
    for (device, value) in bytes.lines().filter_map(value_of_v1) {
        at(&mut devices, device).io_service_bytes.push(value);
    }
    let operations = of("blkio.throttle.io_serviced").unwrap_or_default();
    for (device, value) in operations.lines().filter_map(value_of_v1) {
        at(&mut devices, device).io_serviced.push(value);
    }
    Some(Statistics { throttling: devices.into_values().collect() })
}

fn value_of_v1(line: &str) -> Option<((u64, u64), Value)> {
    let mut words = line.split_ascii_whitespace();
    let (device, kind, number) = (device(words.next()?)?, words.next()?, words.next()?);
    let operation = match kind {
        "Read" => Operation::Read,
        "Write" => Operation::Write,
        "Sync" => Operation::Sync,
        "Async" => Operation::Async,
        "Discard" => Operation::Discard,
        "Total" => Operation::Total,
        _ => return None,
    };
    Some((device, value(operation, number.parse().ok()?)))
}

/// A line is `MAJOR:MINOR KEY=NUMBER...`.
pub(super) fn of_v2(group: &Path) -> Option<Statistics> {
    let text = read(&group.join("io.stat"))?;
    let mut devices = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(device) else { continue };
        let device = at(&mut devices, device);
        for (key, number) in words.filter_map(|word| word.split_once('=')) {
            let Ok(number) = number.parse() else { continue };
            match key {
                "rbytes" => device.io_service_bytes.push(value(Operation::Read, number)),
                "wbytes" => device.io_service_bytes.push(value(Operation::Write, number)),
                "dbytes" => device.io_service_bytes.push(value(Operation::Discard, number)),
                "rios" => device.io_serviced.push(value(Operation::Read, number)),
                "wios" => device.io_serviced.push(value(Operation::Write, number)),
                "dios" => device.io_serviced.push(value(Operation::Discard, number)),
                // Of controllers that not every kernel has.
                _ => {}
            }
        }
        for values in [&mut device.io_service_bytes, &mut device.io_serviced] {
            let total = values.iter().filter_map(|value| value.value).sum();
            values.push(value(Operation::Total, total));
        }
    }
    Some(Statistics { throttling: devices.into_values().collect() })
}

fn value(operation: Operation, number: u64) -> Value {
    Value { op: Some(operation as i32), value: Some(number) }
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn at(devices: &mut BTreeMap<(u64, u64), OfDevice>, (major, minor): (u64, u64)) -> &mut OfDevice {
    devices.entry((major, minor)).or_insert_with(|| OfDevice {
        device: Some(Number { major_number: major, minor_number: minor }),
        ..OfDevice::default()
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let group = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(group.path().join(name), text).unwrap();
        }
        group
    }

    type Values = Vec<(Operation, u64)>;

    /// Minor number, then bytes and operations by their kind.
    fn plain(statistics: &Statistics) -> Vec<(u64, Values, Values)> {
        let values = |values: &[Value]| -> Values { values.iter().map(|value| (value.op(), value.value())).collect() };
        let of = |device: &OfDevice| {
            let minor = device.device.as_ref().unwrap().minor_number;
            (minor, values(&device.io_service_bytes), values(&device.io_serviced))
        };
        statistics.throttling.iter().map(of).collect()
    }

    #[test]
    fn the_first_generation_counts_by_kind_and_with_nested_groups() {
        use Operation::{Read, Total, Write};
        let files = [
            ("blkio.throttle.io_service_bytes", "8:0 Read 1\n"),
            (
                "blkio.throttle.io_service_bytes_recursive",
                "8:16 Read 4096\n8:16 Write 0\n8:16 Total 4096\n8:0 Read 7\nTotal 4103\n",
            ),
            ("blkio.throttle.io_serviced", "8:16 Read 2\n8:16 Total 2\nTotal 2\n"),
        ];
        let expected = vec![
            (0, vec![(Read, 7)], vec![]),
            (16, vec![(Read, 4096), (Write, 0), (Total, 4096)], vec![(Read, 2), (Total, 2)]),
        ];
        assert_eq!(plain(&of_v1(group(&files).path()).unwrap()), expected);
        let idle = group(&[("blkio.throttle.io_service_bytes", "Total 0\n")]);
        assert_eq!(of_v1(idle.path()), Some(Statistics::default()));
        assert_eq!(of_v1(group(&[]).path()), None);
    }

    #[test]
    fn the_second_generation_has_both_in_one_file() {
        use Operation::{Discard, Read, Total, Write};
        let text = "8:16 rbytes=4096 wbytes=10 rios=2 wios=1 dbytes=0 dios=0 cost.usage=7\nodd\n";
        let read = plain(&of_v2(group(&[("io.stat", text)]).path()).unwrap());
        let bytes = vec![(Read, 4096), (Write, 10), (Discard, 0), (Total, 4106)];
        assert_eq!(read, [(16, bytes, vec![(Read, 2), (Write, 1), (Discard, 0), (Total, 3)])]);
        assert_eq!(of_v2(group(&[]).path()), None);
    }
}
