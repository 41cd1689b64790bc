//! Machine: what the defaults of the settings depend on.
//!
//! The memory is the smaller of what the machine has and what the control group of the process allows (version 2
//! or 1), so that a default in a container does not promise the memory of its host.

use std::path::PathBuf;

/// What the machine offers to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that the process may use, at least 1.
    pub cores: usize,
    /// Bytes of memory that the process may use; 0 if unknown.
    pub memory: u64,
    /// Where temporary files go.
    pub temp_dir: PathBuf,
}

impl Machine {
    /// Asks the operating system.
    pub fn detect() -> Machine {
        Machine {
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory: memory_of(|path| std::fs::read_to_string(path).ok()),
            temp_dir: std::env::temp_dir(),
        }
    }
}

/// The smallest of all limits that `read` knows, in bytes; 0 if it knows none.
fn memory_of(read: impl Fn(&str) -> Option<String>) -> u64 {
    let mut smallest: Option<u64> = None;
    let mut consider = |bytes: Option<u64>| {
        // Version 1 says "no limit" with a number near i64::MAX, which the total of the machine undercuts.
        if let Some(bytes) = bytes.filter(|&b| b > 0) {
            smallest = Some(smallest.map_or(bytes, |s| s.min(bytes)));
        }
    };
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    consider(read("/proc/meminfo").as_deref().and_then(|text| status_kib(text, "MemTotal:")));
    for line in read("/proc/self/cgroup").unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // A limit of any ancestor holds as well. Inside a container the group's own path may not be visible,
        // then only the root of the mount is.
        let mut group = group.trim_end_matches('/');
        loop {
            consider(number(&format!("{root}{group}/{file}")));
            match group.rfind('/') {
                Some(at) => group = &group[..at],
                None => break,
            }
        }
    }
    smallest.unwrap_or(0)
}

/// The value of a line `Name:   123 kB`, in bytes.
pub(crate) fn status_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(files: &[(&str, &str)]) -> u64 {
        memory_of(|path| files.iter().find(|(p, _)| *p == path).map(|(_, text)| text.to_string()))
    }

    const TOTAL: (&str, &str) = ("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_smallest_limit_of_machine_and_groups_holds() {
        assert_eq!(memory(&[TOTAL]), 16_000_000 << 10);
        let v2 = [
            TOTAL,
            ("/proc/self/cgroup", "0::/user/job\n"),
            ("/sys/fs/cgroup/user/job/memory.max", "max\n"),
            ("/sys/fs/cgroup/user/memory.max", "1073741824\n"),
        ];
        assert_eq!(memory(&v2), 1 << 30);
        let v1 = [
            TOTAL,
            ("/proc/self/cgroup", "5:cpu:/x\n4:hugetlb,memory:/docker/abc\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912"),
            ("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712"),
        ];
        assert_eq!(memory(&v1), 512 << 20);
    }

    #[test]
    fn unreadable_or_strange_files_are_no_limit() {
        assert_eq!(memory(&[]), 0);
        let odd = [
            ("/proc/meminfo", "MemTotal: lots kB"),
            ("/proc/self/cgroup", "garbage\n::\n0::relative"),
            ("/sys/fs/cgroup/memory.max", "0"),
        ];
        assert_eq!(memory(&odd), 0);
    }

    #[test]
    fn this_machine_has_a_core_and_memory() {
        let machine = Machine::detect();
        assert!(machine.cores >= 1 && machine.memory > 0);
    }
}
