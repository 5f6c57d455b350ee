//! A worker with state: the model is loaded once, before the first job, and up to four concurrent jobs share it. Run it
//! with `cargo run -p captioner`.

use std::time::Duration;

use podwork::{Context, ExitCode, Result, Worker, handler};
use serde::{Deserialize, Serialize};

/// The model's weights: names of colours, with their red, green and blue parts.
const WEIGHTS: &str = include_str!("colours.txt");

/// Describes pictures by their mean colour. It stands in for a model that takes a long time to load.
struct Model {
    colours: Vec<(String, [f64; 3])>,
}

impl Model {
    fn load() -> Result<Self> {
        let colour = |line: &str| -> Result<_> {
            let mut words = line.split_whitespace();
            let name = words.next().ok_or("an empty line in the weights")?;
            let parts = words.map(str::parse).collect::<Result<Vec<f64>, _>>()?;
            let parts = parts
                .try_into()
                .map_err(|_| format!("{name} does not have three parts"))?;
            Ok((name.to_owned(), parts))
        };
        Ok(Self {
            colours: WEIGHTS.lines().map(colour).collect::<Result<_>>()?,
        })
    }

    fn nearest(&self, mean: [f64; 3]) -> &str {
        let distance = |colour: &[f64; 3]| -> f64 {
            colour
                .iter()
                .zip(mean)
                .map(|(part, wanted)| (part - wanted).powi(2))
                .sum()
        };
        let nearest = self
            .colours
            .iter()
            .min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
        nearest.map_or("colourless", |(name, _)| name)
    }
}

#[derive(Deserialize)]
struct Picture {
    /// The red, green and blue values of each pixel, 0 to 255.
    pixels: Vec<[u8; 3]>,
}

#[derive(Serialize)]
struct Caption {
    text: String,
}

#[handler]
async fn caption(picture: Picture, model: &Model, cx: Context) -> Result<Caption> {
    if picture.pixels.is_empty() {
        return Err("a picture without pixels cannot be captioned".into());
    }
    cx.progress("captioning");
    // Simulates the time that a GPU would need.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let count = u32::try_from(picture.pixels.len()).map(f64::from)?;
    let mean = [0, 1, 2].map(|part| {
        picture
            .pixels
            .iter()
            .map(|pixel| f64::from(pixel[part]))
            .sum::<f64>()
            / count
    });
    Ok(Caption {
        text: format!("a {} picture", model.nearest(mean)),
    })
}

fn main() -> ExitCode {
    Worker::new::<caption>()
        .setup(Model::load)
        .concurrency(4)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::testing::{TestJob, TestWorker};
    use serde_json::json;

    #[test]
    fn the_weights_load() {
        let model = Model::load().unwrap();
        assert_eq!(model.nearest([250.0, 5.0, 5.0]), "red");
    }

    #[tokio::test]
    async fn captions_by_the_mean_colour() {
        let input = json!({ "pixels": [[0, 0, 255], [10, 20, 200]] });
        let job = TestJob::new(input)
            .state(Model::load().unwrap())
            .run::<caption>()
            .await;
        assert_eq!(job.result.unwrap()["text"], "a blue picture");
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<caption>().setup(Model::load))
            .await
            .unwrap();
        let job = worker.run(json!({ "pixels": [] })).await.unwrap();
        let error = job.result.unwrap_err();
        assert!(error.message().contains("without pixels"), "{error}");
        worker.stop().await.unwrap();
    }
}
