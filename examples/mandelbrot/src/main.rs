//! A handler that tells what it takes and gives, and whose input is checked before it runs: a part of the Mandelbrot set,
//! as text. Run it with `cargo run -p mandelbrot`, and see what it tells with `cargo run -p mandelbrot -- --rp_schema`.

use garde::Validate;
use podwork::{Context, Result, handler};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part to show.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct View {
    /// Columns of text.
    #[garde(range(min = 1, max = 500))]
    width: u16,
    /// Rows of text.
    #[garde(range(min = 1, max = 500))]
    height: u16,
    /// The point in the middle: its real and its imaginary part.
    #[garde(inner(range(min = -2.0, max = 2.0)))]
    #[serde(default = "middle")]
    center: [f64; 2],
    /// How often it is enlarged; 1 shows the whole set.
    #[garde(range(min = 1.0, max = 1e12))]
    #[serde(default = "whole")]
    zoom: f64,
    /// Steps after which a point counts as one of the set.
    #[garde(range(min = 1, max = 10_000))]
    #[serde(default = "enough")]
    steps: u32,
    /// From what leaves at once to what stays.
    #[garde(length(chars, min = 2, max = 64))]
    #[serde(default = "shades")]
    shades: String,
}

fn middle() -> [f64; 2] {
    [-0.5, 0.0]
}

fn whole() -> f64 {
    1.0
}

fn enough() -> u32 {
    200
}

fn shades() -> String {
    " .:-=+*#%@".to_owned()
}

/// What was drawn.
#[derive(Serialize, JsonSchema)]
struct Picture {
    /// Text, row by row.
    rows: Vec<String>,
    /// How many of its points belong to the set.
    inside: usize,
}

#[handler(schema, validate)]
fn mandelbrot(view: View, cx: Context) -> Result<Picture> {
    let shades: Vec<char> = view.shades.chars().collect();
    let (width, height) = (f64::from(view.width), f64::from(view.height));
    // A character is about twice as high as it is wide.
    let side = 3.0 / view.zoom / width.min(2.0 * height);
    let mut inside = 0;
    let mut rows = Vec::new();
    for row in 0..view.height {
        if cx.is_cancelled() {
            return Err("cancelled".into());
        }
        cx.progress(u32::from(row) * 100 / u32::from(view.height));
        let y = view.center[1] + (f64::from(row) - height / 2.0) * 2.0 * side;
        let columns = (0..view.width).map(|column| {
            let x = view.center[0] + (f64::from(column) - width / 2.0) * side;
            let left = steps_until_it_leaves(x, y, view.steps);
            inside += usize::from(left.is_none());
            // Later steps are further apart than the first.
            let shade = left.map_or(shades.len() - 1, |left| left.ilog2() as usize);
            shades[shade.min(shades.len() - 1)]
        });
        rows.push(columns.collect());
    }
    Ok(Picture { rows, inside })
}

/// `None`: it stays, as far as that was looked at.
fn steps_until_it_leaves(x: f64, y: f64, most: u32) -> Option<u32> {
    let (mut re, mut im) = (0.0, 0.0);
    (1..=most).find(|_| {
        (re, im) = (re * re - im * im + x, 2.0 * re * im + y);
        re * re + im * im > 4.0
    })
}

fn main() -> podwork::ExitCode {
    podwork::run::<mandelbrot>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::{TestJob, TestWorker};
    use serde_json::json;

    #[tokio::test]
    async fn it_draws_what_is_inside_and_what_is_not() {
        let input = json!({ "width": 3, "height": 1, "zoom": 0.5 });
        let failure = TestJob::new(input).run::<mandelbrot>().await.result;
        assert_eq!(
            failure.unwrap_err().message(),
            "invalid input at `zoom`: lower than 1"
        );

        let input = json!({ "width": 30, "height": 11, "shades": " #" });
        let job = TestJob::new(input).run::<mandelbrot>().await;
        let picture = job.result.unwrap();
        let rows = picture["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 11);
        assert!(rows[5].as_str().unwrap().contains("########"), "{rows:?}");
        assert!(picture["inside"].as_u64().unwrap() > 30, "{picture}");
    }

    #[test]
    fn what_it_tells_is_what_it_checks() {
        let schema = podwork::schema::<mandelbrot>();
        let fields = &schema.input["properties"];
        assert_eq!(fields["width"]["maximum"], 500);
        assert_eq!(fields["shades"]["minLength"], 2);
        assert_eq!(schema.input["required"], json!(["width", "height"]));
        assert_eq!(schema.output["properties"]["inside"]["type"], "integer");
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<mandelbrot>())
            .await
            .unwrap();
        let job = worker
            .run(json!({ "width": 0, "height": 501 }))
            .await
            .unwrap();
        let error = job.result.unwrap_err();
        assert_eq!(
            error.message(),
            "invalid input at `height`: greater than 500; at `width`: lower than 1"
        );
        worker.stop().await.unwrap();
    }
}
