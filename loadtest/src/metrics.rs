//! Reads what a process says of itself at `/metrics`.

use anyhow::Context as _;

/// Everything at `/metrics`, as text.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks the process whose admin port that is.
    pub(crate) async fn of(admin_port: u16) -> anyhow::Result<Self> {
        let url = format!("http://127.0.0.1:{admin_port}/metrics");
        let answer = reqwest::get(url).await.context("a process does not show its metrics")?;
        Ok(Self(answer.text().await.context("a process does not show its metrics")?))
    }

    /// A series by its whole name, labels included; 0 if it is not there.
    pub(crate) fn get(&self, series: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(value).unwrap_or(0.0)
    }

    /// The mean of a histogram; 0 if nothing was observed.
    pub(crate) fn mean(&self, histogram: &str) -> f64 {
        let n = self.get(&format!("{histogram}_count"));
        if n > 0.0 { self.get(&format!("{histogram}_sum")) / n } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_their_whole_name() {
        let text = "# HELP a_total x\na_total{outcome=\"posted\"} 12\nb_sum 6\nb_count 3\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.get("a_total{outcome=\"posted\"}"), 12.0);
        assert_eq!(metrics.get("a_total"), 0.0);
        assert_eq!(metrics.mean("b"), 2.0);
    }
}
