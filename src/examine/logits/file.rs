//! `RUN/logits/logits.safetensors`.
//!
//! For every origin and class that has voxels, three tensors of as many rows as voxels:
//! `ORIGIN.CLASS.logits` (F32, one column per class), `ORIGIN.CLASS.positions` (U32, x, y, z on the grid of the
//! prepared sample) and `ORIGIN.CLASS.cases` (U32, index into the list of names). ORIGIN is `seen`, `unseen` or
//! `test`, CLASS the class's number. The names stand, as JSON lists, under `classes` and `cases` in the metadata.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Cloud, Collection, Origin};
use crate::{Error, Result};

/// The bytes of the file, which `path` names in errors.
pub(crate) fn bytes(path: &Path, collection: &Collection) -> Result<Vec<u8>> {
    let classes = collection.classes.len();
    let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for cloud in &collection.clouds {
        let count = cloud.positions.len();
        let name = |what: &str| format!("{}.{}.{what}", cloud.origin.name(), cloud.class);
        let bytes = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let logits = cloud.logits.iter().flat_map(|v| v.to_le_bytes()).collect();
        parts.push((name("logits"), Dtype::F32, vec![count, classes], logits));
        parts.push((name("positions"), Dtype::U32, vec![count, 3], bytes(cloud.positions.as_flattened())));
        parts.push((name("cases"), Dtype::U32, vec![count], bytes(&cloud.cases)));
    }
    let failed = |problem: String| Error::io("write", path, std::io::Error::other(problem));
    let mut views = Vec::new();
    for (name, kind, shape, bytes) in &parts {
        let view = TensorView::new(*kind, shape.clone(), bytes).map_err(|e| failed(e.to_string()))?;
        views.push((name.as_str(), view));
    }
    let list = |names: &[String]| serde_json::json!(names).to_string();
    let names = HashMap::from([
        ("classes".to_owned(), list(&collection.classes)),
        ("cases".to_owned(), list(&collection.cases)),
    ]);
    safetensors::serialize(views, Some(names)).map_err(|e| failed(e.to_string()))
}

pub(crate) fn read(path: &Path) -> Result<Collection> {
    let bad = |problem: String| {
        Error::invalid(path, "safetensors", problem, "collect the logits again: segen logits RUN")
    };
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let (_, head) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    let names = |key: &str| -> Result<Vec<String>> {
        let text = head.metadata().as_ref().and_then(|names| names.get(key));
        let text = text.ok_or_else(|| bad(format!("the names of the {key} are missing")))?;
        serde_json::from_str(text).map_err(|e| bad(format!("{key}: {e}")))
    };
    let (classes, cases) = (names("classes")?, names("cases")?);
    let mut clouds = Vec::new();
    for origin in Origin::ALL {
        for class in 0..classes.len() {
            let name = |what: &str| format!("{}.{class}.{what}", origin.name());
            if tensors.tensor(&name("logits")).is_err() {
                continue;
            }
            let part = |what: &str, kind: Dtype, columns: Option<usize>| -> Result<Vec<[u8; 4]>> {
                let view = tensors.tensor(&name(what)).map_err(|e| bad(e.to_string()))?;
                if view.dtype() != kind || view.shape().get(1).copied() != columns {
                    let problem =
                        format!("`{}` is {:?} of shape {:?}", name(what), view.dtype(), view.shape());
                    return Err(bad(problem));
                }
                Ok(view.data().as_chunks().0.to_vec())
            };
            let words = |bytes: Vec<[u8; 4]>| bytes.into_iter().map(u32::from_le_bytes).collect::<Vec<u32>>();
            let logits = part("logits", Dtype::F32, Some(classes.len()))?;
            let cloud = Cloud {
                origin,
                class,
                cases: words(part("cases", Dtype::U32, None)?),
                positions: words(part("positions", Dtype::U32, Some(3))?).as_chunks().0.to_vec(),
                logits: logits.into_iter().map(f32::from_le_bytes).collect(),
            };
            let count = cloud.positions.len();
            if cloud.cases.len() != count || cloud.logits.len() != count * classes.len() {
                return Err(bad(format!("the tensors of {} {class} differ in length", origin.name())));
            }
            if let Some(case) = cloud.cases.iter().find(|case| **case as usize >= cases.len()) {
                return Err(bad(format!("case {case} is not in the list of {} names", cases.len())));
            }
            clouds.push(cloud);
        }
    }
    Ok(Collection { classes, cases, clouds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_damage_is_named() {
        let cloud = |origin, class: usize, n: usize| Cloud {
            origin,
            class,
            cases: (0..n as u32).map(|i| i % 2).collect(),
            positions: (0..n as u32).map(|i| [i, 2 * i, 70_000]).collect(),
            logits: (0..3 * n).map(|i| i as f32 - 0.5).collect(),
        };
        let collection = Collection {
            classes: vec!["background".into(), "organ".into(), "tumour \"x\"".into()],
            cases: vec!["a".into(), "b".into()],
            clouds: vec![cloud(Origin::Seen, 0, 4), cloud(Origin::Seen, 2, 1), cloud(Origin::Test, 1, 3)],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logits.safetensors");
        std::fs::write(&path, bytes(&path, &collection).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), collection);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("logits.safetensors") && error.contains("segen logits"), "{error}");
    }
}
