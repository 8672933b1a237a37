//! Where a program ran.

use std::fs;

use serde::{Deserialize, Serialize};

/// A machine, as `/proc` and `/sys` describe it. What is not known is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that this program may use.
    pub cores: usize,
    /// Memory.
    pub memory_bytes: u64,
    /// The operating system's name.
    pub system: String,
    /// The kernel's version.
    pub kernel: String,
    /// What it is a guest of, or `unknown hypervisor`; `None` where it is no virtual machine.
    pub hypervisor: Option<String>,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let of_cpu = |name: &str| {
            let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
        };
        let flags = of_cpu("flags").unwrap_or_default();
        let is_guest = flags.split(' ').any(|flag| flag == "hypervisor");
        let product = read("/sys/class/dmi/id/product_name");
        let hypervisor = match product.trim() {
            "" => "unknown hypervisor",
            product => product,
        };
        let release = read("/etc/os-release");
        let mut pretty = release
            .lines()
            .filter_map(|line| line.strip_prefix("PRETTY_NAME="));
        let meminfo = read("/proc/meminfo");
        let total = meminfo.lines().find_map(|line| {
            let kib = line.strip_prefix("MemTotal:")?.trim();
            kib.strip_suffix(" kB")?.parse::<u64>().ok()
        });
        Self {
            cpu: of_cpu("model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get()),
            memory_bytes: total.unwrap_or_default() * 1024,
            system: pretty
                .next()
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            hypervisor: is_guest.then(|| hypervisor.to_owned()),
        }
    }
}
