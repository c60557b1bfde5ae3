//! Reads the text as strictly as its writer must write it.

use std::collections::{BTreeMap, BTreeSet};

/// The samples of a text, by name and labels as they stand there.
pub(crate) struct Scrape {
    samples: BTreeMap<String, f64>,
    /// Each family with its type.
    pub(crate) families: BTreeMap<String, String>,
}

impl Scrape {
    /// Fails where a family is torn apart or told of twice, a sample is there twice, or belongs to no family.
    pub(crate) fn read(text: &str) -> Self {
        let mut scrape = Self { samples: BTreeMap::new(), families: BTreeMap::new() };
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has an end");
        let (mut helped, mut family, mut kind) = ("", "", "");
        for line in text.strip_suffix('\n').into_iter().flat_map(|text| text.split('\n')) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, sentence) = help.split_once(' ').expect("a name and a sentence");
                assert!(sentence.ends_with('.') && sentence.len() > 10, "{line}");
                helped = name;
            } else if let Some(of) = line.strip_prefix("# TYPE ") {
                (family, kind) = of.split_once(' ').expect("a name and a type");
                assert_eq!(family, helped, "HELP comes before TYPE");
                assert_eq!(scrape.families.insert(family.to_owned(), kind.to_owned()), None, "{family}: once");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let name = series.split('{').next().expect("the first part");
                let suffixes: &[&str] = match kind {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "summary" => &["_sum", "_count"],
                    _ => &[""],
                };
                let suffix = name.strip_prefix(family);
                assert!(suffix.is_some_and(|suffix| suffixes.contains(&suffix)), "below {family}: {line}");
                let value = value.parse().expect("a number");
                assert_eq!(scrape.samples.insert(series.to_owned(), value), None, "twice: {series}");
            }
        }
        scrape
    }

    /// The value of a series, which must be there.
    pub(crate) fn get(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series} among {:#?}", self.samples))
    }

    /// The same of the pool `orders`, with one more label (or `""`).
    pub(crate) fn orders(&self, name: &str, label: &str) -> f64 {
        let comma = if label.is_empty() { "" } else { "," };
        self.get(&format!(r#"{name}{{db_client_connection_pool_name="orders"{comma}{label}}}"#))
    }

    /// All series.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        self.samples.iter().map(|(series, value)| (series.as_str(), *value))
    }

    /// The names of the samples, as queries have them.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.samples.keys().filter_map(|series| series.split('{').next()).collect()
    }

    /// The buckets of a histogram of the pool `orders`, bound and count, the lowest first.
    pub(crate) fn buckets(&self, family: &str) -> Vec<(f64, f64)> {
        let start = format!(r#"{family}_bucket{{db_client_connection_pool_name="orders",le=""#);
        let mut buckets: Vec<_> = self
            .series()
            .filter_map(|(series, count)| {
                let bound = series.strip_prefix(&start)?.strip_suffix("\"}")?;
                Some((bound.parse::<f64>().expect("a bound"), count))
            })
            .collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }
}
