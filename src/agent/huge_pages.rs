//! Huge pages: what the machine set aside, by size, and what pods may have of it. Follows cAdvisor's machine information and
//! `GetHugepageLimitsFromResources` and `HugePageLimits` of the kubelet: of a size that is not asked for, nothing may be used.
use std::path::Path;

use serde_json::{Value, json};

use super::resources::value;

/// Pages of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Pages {
    /// Bytes of one.
    pub size: i64,
    /// How many there are.
    pub count: i64,
}

/// Where the kernel tells.
const DIR: &str = "/sys/kernel/mm/hugepages";

/// What there is, by size; none where the kernel has none.
pub fn measure() -> Vec<Pages> {
    let entries = std::fs::read_dir(DIR).into_iter().flatten().flatten();
    let mut all: Vec<Pages> = entries.filter_map(|entry| pages(&entry.path())).collect();
    all.sort_by_key(|pages| pages.size);
    all
}

/// `hugepages-2048kB`, with a file that holds the number.
fn pages(dir: &Path) -> Option<Pages> {
    let kib: i64 = dir.file_name()?.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let count = std::fs::read_to_string(dir.join("nr_hugepages")).ok()?.trim().parse().ok()?;
    Some(Pages { size: kib.checked_mul(1024)?, count })
}

/// The largest unit that holds it, with the ending of API resources or of cgroup files.
fn named(size: i64, ends: [&str; 3]) -> String {
    let [kilo, mega, giga] = ends;
    match size {
        1_073_741_824.. => format!("{}{giga}", size >> 30),
        1_048_576.. => format!("{}{mega}", size >> 20),
        _ => format!("{}{kilo}", size >> 10),
    }
}

/// Name of the resource, such as `hugepages-2Mi`.
pub fn resource(size: i64) -> String {
    format!("hugepages-{}", named(size, ["Ki", "Mi", "Gi"]))
}

/// `hugepageLimits` of the OCI specification, where these amounts (resource, bytes) may be used.
pub fn limits<'a>(pages: &[Pages], amounts: impl Iterator<Item = (&'a str, i64)> + Clone) -> Value {
    let of = |size: i64| {
        let same = |name: &str| name.strip_prefix("hugepages-").and_then(value) == Some(size);
        amounts.clone().find(|(name, _)| same(name)).map_or(0, |(_, bytes)| bytes)
    };
    pages.iter().map(|pages| json!({"pageSize": named(pages.size, ["KB", "MB", "GB"]), "limit": of(pages.size)})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_not_asked_for_are_closed() {
        let pages = [Pages { size: 64 << 10, count: 1 }, Pages { size: 2 << 20, count: 8 }, Pages { size: 1 << 30, count: 0 }];
        assert_eq!(pages.clone().map(|pages| resource(pages.size)), ["hugepages-64Ki", "hugepages-2Mi", "hugepages-1Gi"]);
        let asked = [("cpu", 1), ("hugepages-2048Ki", 4 << 20)];
        let want = json!([{"pageSize": "64KB", "limit": 0}, {"pageSize": "2MB", "limit": 4 << 20}, {"pageSize": "1GB", "limit": 0}]);
        assert_eq!(limits(&pages, asked.into_iter()), want);
    }
}
