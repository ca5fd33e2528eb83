//! What a container's own network has carried, as its processes see it. A container that shares the host's network has no
//! figures of its own.

use std::fs;
use std::path::Path;

use proto::mesos::ResourceStatistics;

pub(super) fn read(statistics: &mut ResourceStatistics, proc: &Path, pid: u32) {
    let process = proc.join(pid.to_string());
    let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let own = network(&process);
    if own.is_none() || own == network(&proc.join("self")) {
        return;
    }
    if let Ok(text) = fs::read_to_string(process.join("net/dev")) {
        devices(statistics, &text);
    }
    if let Ok(text) = fs::read_to_string(process.join("net/sockstat")) {
        connections(statistics, &text);
    }
}

/// A line is `NAME: BYTES PACKETS ERRORS DROPPED FIFO FRAME COMPRESSED MULTICAST` received, and the first four again sent.
fn devices(statistics: &mut ResourceStatistics, text: &str) {
    let mut sums = [0u64; 16];
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        for (sum, number) in sums.iter_mut().zip(numbers.split_ascii_whitespace()) {
            *sum += number.parse::<u64>().unwrap_or(0);
        }
    }
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        sums;
    statistics.net_rx_bytes = Some(rx_bytes);
    statistics.net_rx_packets = Some(rx_packets);
    statistics.net_rx_errors = Some(rx_errors);
    statistics.net_rx_dropped = Some(rx_dropped);
    statistics.net_tx_bytes = Some(tx_bytes);
    statistics.net_tx_packets = Some(tx_packets);
    statistics.net_tx_errors = Some(tx_errors);
    statistics.net_tx_dropped = Some(tx_dropped);
}

/// Among others a line `TCP: inuse 3 orphan 0 tw 1 alloc 4 mem 0`.
fn connections(statistics: &mut ResourceStatistics, text: &str) {
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("TCP: ")) else { return };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let of = |name: &str| words.chunks_exact(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse().ok());
    statistics.net_tcp_active_connections = of("inuse");
    statistics.net_tcp_time_wait_connections = of("tw");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DEVICES: &str = "\
        Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  \
        eth0:    1500      10    1    2    0     0          0         0     700       5    3    4    0     0       0          0\n  \
        eth1:     500       1    0    0    0     0          0         0     300       2    0    0    0     0       0          0\n";

    fn proc(own: &str, of_host: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (name, network) in [("7", own), ("self", of_host)] {
            fs::create_dir_all(proc.path().join(name).join("ns")).unwrap();
            symlink(network, proc.path().join(name).join("ns/net")).unwrap();
        }
        fs::create_dir(proc.path().join("7/net")).unwrap();
        fs::write(proc.path().join("7/net/dev"), DEVICES).unwrap();
        fs::write(proc.path().join("7/net/sockstat"), "sockets: used 9\nTCP: inuse 3 orphan 0 tw 1 alloc 4 mem 0\n")
            .unwrap();
        proc
    }

    #[test]
    fn all_devices_but_the_loopback_count() {
        let mut statistics = ResourceStatistics::default();
        read(&mut statistics, proc("net:[2]", "net:[1]").path(), 7);
        assert_eq!((statistics.net_rx_bytes(), statistics.net_rx_packets()), (2000, 11));
        assert_eq!((statistics.net_rx_errors(), statistics.net_rx_dropped()), (1, 2));
        assert_eq!((statistics.net_tx_bytes(), statistics.net_tx_packets()), (1000, 7));
        assert_eq!((statistics.net_tx_errors(), statistics.net_tx_dropped()), (3, 4));
        assert_eq!((statistics.net_tcp_active_connections(), statistics.net_tcp_time_wait_connections()), (3.0, 1.0));
    }

    #[test]
    fn the_hosts_own_traffic_is_not_the_containers() {
        let mut statistics = ResourceStatistics::default();
        read(&mut statistics, proc("net:[1]", "net:[1]").path(), 7);
        assert_eq!(statistics, ResourceStatistics::default());
    }
}
