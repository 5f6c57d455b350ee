//! A worker that does blocking work in a plain `fn`: it shrinks an image. Run it with `cargo run -p thumbnail`.

use std::io::Cursor;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, ImageReader, Limits};
use podwork::{Result, handler};
use serde::{Deserialize, Serialize};

/// The maximum width and height of an input image, in pixels.
const MAX_SIDE: u32 = 20_000;
/// The maximum memory that decoding may allocate, in bytes.
const MAX_MEMORY: u64 = 512 * 1024 * 1024;

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    source: Source,
    /// The maximum width and height of the thumbnail, in pixels.
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The bytes of a PNG or JPEG image, as base64.
    ImageBase64(String),
    /// The path of a file that the worker can read, such as one on a network volume.
    Path(PathBuf),
}

#[derive(Serialize)]
struct Thumbnail {
    image_base64: String,
    format: &'static str,
    width: u32,
    height: u32,
    bytes: usize,
}

#[handler]
fn thumbnail(request: Request) -> Result<Thumbnail> {
    if request.width == 0 || request.height == 0 {
        return Err("width and height must be at least 1".into());
    }
    let bytes = match request.source {
        Source::ImageBase64(text) => STANDARD
            .decode(text)
            .map_err(|error| format!("image_base64 is not valid base64: {error}"))?,
        Source::Path(path) => std::fs::read(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
    };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = match reader.format() {
        Some(ImageFormat::Png) => ImageFormat::Png,
        Some(ImageFormat::Jpeg) => ImageFormat::Jpeg,
        _ => return Err("the image is neither PNG nor JPEG".into()),
    };
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);

    let picture = reader.decode()?;
    // Never enlarges: the client chooses the size, and the memory for it would have no limit.
    let small = picture.thumbnail(
        request.width.min(picture.width()),
        request.height.min(picture.height()),
    );
    let mut encoded = Cursor::new(Vec::new());
    small.write_to(&mut encoded, format)?;
    let encoded = encoded.into_inner();
    Ok(Thumbnail {
        width: small.width(),
        height: small.height(),
        format: if format == ImageFormat::Png {
            "png"
        } else {
            "jpeg"
        },
        bytes: encoded.len(),
        image_base64: STANDARD.encode(encoded),
    })
}

fn main() -> podwork::ExitCode {
    podwork::run::<thumbnail>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::TestWorker;
    use serde_json::json;

    fn request(source: Source) -> Request {
        Request {
            source,
            width: 16,
            height: 16,
        }
    }

    #[test]
    fn keeps_the_shape_within_the_box() {
        let mut png = Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(64, 32)
            .write_to(&mut png, ImageFormat::Png)
            .unwrap();
        let made = thumbnail(request(Source::ImageBase64(
            STANDARD.encode(png.into_inner()),
        )))
        .unwrap();
        assert_eq!((made.width, made.height, made.format), (16, 8, "png"));
        let decoded =
            image::load_from_memory(&STANDARD.decode(made.image_base64).unwrap()).unwrap();
        assert_eq!(decoded.width(), 16);
    }

    #[test]
    fn enlarges_nothing() {
        let mut png = Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(4, 2)
            .write_to(&mut png, ImageFormat::Png)
            .unwrap();
        let made = thumbnail(Request {
            source: Source::ImageBase64(STANDARD.encode(png.into_inner())),
            width: 600,
            height: 600,
        })
        .unwrap();
        assert_eq!((made.width, made.height), (4, 2));
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<thumbnail>()).await.unwrap();
        let input = json!({ "path": "no/such/file", "width": 16, "height": 16 });
        let job = worker.run(input).await.unwrap();
        let error = job.result.unwrap_err();
        assert!(error.message().contains("cannot read"), "{error}");
        worker.stop().await.unwrap();
    }

    #[test]
    fn says_what_is_wrong_with_the_picture() {
        let complaint = |source| thumbnail(request(source)).err().unwrap().to_string();
        assert!(complaint(Source::ImageBase64("%".to_owned())).contains("not valid base64"));
        assert!(
            complaint(Source::ImageBase64("aGVsbG8=".to_owned())).contains("neither PNG nor JPEG")
        );
        assert!(
            complaint(Source::Path("no/such/file".into())).contains("cannot read no/such/file")
        );
    }
}
