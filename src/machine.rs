//! What the system says of this process, other processes and the machine; empty, 0 or `None` where it says nothing.

use std::path::Path;

use sysinfo::{
    CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessStatus,
    ProcessesToUpdate, RefreshKind, Signal, System,
};

/// Largest resident memory of this process so far, bytes; where the system keeps no such record, what it takes now.
pub fn peak_memory_bytes() -> u64 {
    // The record is Linux's own; no portable library reads it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or_else(resident_bytes, |kib| kib * 1024)
}

fn resident_bytes() -> u64 {
    with_process(this(), ProcessRefreshKind::nothing().with_memory(), sysinfo::Process::memory).unwrap_or(0)
}

/// Processor name.
pub fn processor() -> String {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned())
}

/// Memory that is free for a new task, bytes: the machine's, or what a limit on this process's group (a container, a
/// batch job) leaves of it.
pub fn available_memory_bytes() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let available = system.available_memory();
    let own = with_process(this(), ProcessRefreshKind::nothing(), sysinfo::Process::cgroup_limits).flatten();
    match own.or_else(|| system.cgroup_limits()) {
        // What the group holds as cached files counts as used there, but is given up when it is needed.
        Some(group) => available.min(group.total_memory.saturating_sub(group.rss)),
        None => available,
    }
}

/// Bytes that may still be written below `folder` (or where it will be); `None` where the system does not say.
pub fn free_disk_bytes(folder: &Path) -> Option<u64> {
    let folder = std::path::absolute(folder).ok()?;
    let real = folder.ancestors().find_map(|part| part.canonicalize().ok())?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let holds = disks.iter().filter(|disk| real.starts_with(disk.mount_point()));
    let disk = holds.max_by_key(|disk| disk.mount_point().components().count())?;
    Some(disk.available_space())
}

/// Name of this machine.
pub fn host() -> String {
    System::host_name().unwrap_or_default()
}

/// When a process of this machine began, seconds since 1970; `None` where there is no such process or it has ended and
/// only its parent has not asked yet. With its number this tells it from a later one that was given the same number.
pub fn process_started(process: u32) -> Option<u64> {
    let read = |process: &sysinfo::Process| {
        let ended = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
        (!ended).then(|| process.start_time())
    };
    with_process(Pid::from_u32(process), ProcessRefreshKind::nothing(), read).flatten()
}

/// Asks a process of this machine to end (SIGTERM; where there are no signals, by force). Whether it was told.
pub fn terminate(process: u32) -> bool {
    let ask = |process: &sysinfo::Process| process.kill_with(Signal::Term).unwrap_or_else(|| process.kill());
    with_process(Pid::from_u32(process), ProcessRefreshKind::nothing(), ask).unwrap_or(false)
}

fn this() -> Pid {
    Pid::from_u32(std::process::id())
}

fn with_process<T>(
    pid: Pid,
    kind: ProcessRefreshKind,
    read: impl FnOnce(&sysinfo::Process) -> T,
) -> Option<T> {
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_machine_are_known() {
        assert!(peak_memory_bytes() > 1 << 20);
        assert!(resident_bytes() > 1 << 20);
        assert!(available_memory_bytes() > 1 << 20);
        assert!(!processor().is_empty() && !host().is_empty());
        assert!(free_disk_bytes(&std::env::temp_dir()).is_some());
        assert!(process_started(std::process::id()).is_some_and(|seconds| seconds > 1_600_000_000));
    }

    #[test]
    fn a_process_that_is_gone_has_no_start() {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .arg("--list")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a process");
        let number = child.id();
        // Before anyone has asked how it ended, and after.
        let patience = std::time::Instant::now();
        while process_started(number).is_some() && patience.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(process_started(number), None);
        child.wait().expect("its end");
        assert_eq!(process_started(number), None);
    }
}
