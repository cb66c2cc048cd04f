//! Trains some classes or regions of a data set instead of all its label values.

use super::{LabelScheme, Trained};
use crate::image::volume::Labels;
use crate::{Error, Result};

impl LabelScheme {
    /// The scheme in which only the classes and regions of these names (in any case) are trained and scored, in
    /// this order: class i + 1 is the i-th of them, of overlapping ones a later one lies on top, and all other
    /// voxels are background. An empty list leaves everything as it is.
    ///
    /// # Errors
    /// Where a name is unknown or given twice.
    pub fn select(&self, names: &[String]) -> Result<Self> {
        if names.is_empty() {
            return Ok(self.clone());
        }
        let mut regions = Vec::new();
        let mut order = Vec::new();
        for name in names {
            let same = |other: &str| other.to_lowercase() == name.to_lowercase();
            let Some(index) = self.regions.iter().position(|region| same(&region.name)) else {
                let known: Vec<&str> = self.regions.iter().map(|region| region.name.as_str()).collect();
                return Err(Error::config(
                    "task.classes",
                    format!("the data set has no class or region `{name}`"),
                    format!("it has {}; an empty list (`task.classes=[]`) trains all", known.join(", ")),
                ));
            };
            let region = &self.regions[index];
            if regions.contains(region) {
                let problem = format!("`{name}` is given twice");
                return Err(Error::config("task.classes", problem, "name every class once"));
            }
            let painted = self.regions_class_order.as_ref().map(|order| order[index]);
            order.push(painted.unwrap_or(region.values[0]));
            regions.push(region.clone());
        }
        let background = self.names[..1].iter().cloned();
        Ok(Self {
            names: background.chain(regions.iter().map(|region| region.name.clone())).collect(),
            trained: Trained::Regions { values: self.names.clone() },
            regions,
            ignore: self.ignore,
            regions_class_order: Some(order),
        })
    }

    /// Number of label values that files may have, `ignore` not counted.
    pub(crate) fn values(&self) -> usize {
        match &self.trained {
            Trained::Values => self.names.len(),
            Trained::Regions { values } => values.len(),
        }
    }

    /// The trained class of every label value; `None` where it is the value itself.
    pub(crate) fn class_of_value(&self) -> Option<[u8; 256]> {
        let Trained::Regions { .. } = self.trained else { return None };
        let mut classes = [0; 256];
        for (class, region) in (1..).zip(&self.regions) {
            region.values.iter().for_each(|&value| classes[usize::from(value)] = class);
        }
        Some(classes)
    }

    /// Turns predicted classes into the label values of the data set's files: the one that each region paints.
    pub fn paint(&self, labels: &mut Labels) {
        let (Trained::Regions { .. }, Some(order)) = (&self.trained, &self.regions_class_order) else {
            return;
        };
        labels.voxels.mapv_inplace(|class| match class {
            0 => 0,
            class => order.get(usize::from(class) - 1).copied().unwrap_or(class),
        });
    }

    /// `labels`, `regions_class_order` and `label_names` of a `dataset.json` that says the same.
    pub(crate) fn describe(&self) -> [(&'static str, serde_json::Value); 3] {
        use serde_json::{Map, Value, json};
        let values: &[String] = match &self.trained {
            Trained::Values => &self.names,
            Trained::Regions { values } => values,
        };
        let mut labels = Map::new();
        labels.insert(self.names[0].clone(), json!(0));
        for region in &self.regions {
            let value = match region.values[..] {
                [value] => json!(value),
                _ => json!(region.values),
            };
            labels.insert(region.name.clone(), value);
        }
        labels.extend(self.ignore.map(|value| ("ignore".to_owned(), json!(value))));
        let names = values.iter().enumerate().skip(1);
        let names: Map<String, Value> = names.map(|(value, name)| (value.to_string(), json!(name))).collect();
        [
            ("labels", Value::Object(labels)),
            ("regions_class_order", json!(self.regions_class_order)),
            ("label_names", Value::Object(names)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::data::dataset::Region;
    use crate::image::volume::{Grid, Volume};

    fn brats() -> LabelScheme {
        let region = |name: &str, values: &[u8]| Region { name: name.into(), values: values.to_vec() };
        LabelScheme {
            names: ["background", "necrosis", "edema", "non-enhancing", "enhancing"].map(Into::into).to_vec(),
            regions: vec![
                region("whole tumor", &[1, 2, 3, 4]),
                region("tumor core", &[1, 3, 4]),
                region("enhancing tumor", &[4]),
            ],
            ignore: None,
            regions_class_order: Some(vec![2, 1, 4]),
            trained: Trained::Values,
        }
    }

    #[test]
    fn a_region_becomes_a_class_and_comes_back_as_what_it_paints() {
        let scheme = brats().select(&["Tumor Core".to_owned(), "enhancing tumor".to_owned()]).unwrap();
        assert_eq!(scheme.names, ["background", "tumor core", "enhancing tumor"]);
        assert_eq!((scheme.classes(), scheme.values()), (3, 5));
        assert_eq!(scheme.class_of_value().unwrap()[..5], [0, 1, 0, 1, 2]);
        let voxels = Array3::from_shape_vec((3, 1, 1), vec![0, 1, 2]).unwrap();
        let mut labels = Volume::new(voxels, Grid::with_spacing([3, 1, 1], [1.0; 3]));
        scheme.paint(&mut labels);
        assert_eq!(labels.voxels.as_slice().unwrap(), [0, 1, 4]);
    }

    #[test]
    fn nothing_selected_changes_nothing() {
        let scheme = brats().select(&[]).unwrap();
        assert_eq!(scheme, brats());
        assert!(scheme.class_of_value().is_none());
    }

    #[test]
    fn unknown_and_repeated_names_are_refused() {
        let error = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            brats().select(&names).unwrap_err().to_string()
        };
        assert!(error(&["liver"]).contains("whole tumor, tumor core, enhancing tumor"));
        assert!(error(&["tumor core", "TUMOR CORE"]).contains("twice"));
    }

    #[test]
    fn its_description_reads_back() {
        let scheme = brats().select(&["tumor core".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dataset.json");
        let mut description = serde_json::json!({
            "channel_names": {"0": "Flair"}, "numTraining": 1, "file_ending": ".nii.gz",
        });
        scheme.describe().into_iter().for_each(|(key, value)| description[key] = value);
        std::fs::write(&file, description.to_string()).unwrap();
        let read = LabelScheme::read(&file).unwrap();
        assert_eq!(read.regions, scheme.regions);
        assert_eq!(read.regions_class_order, Some(vec![1]));
        assert_eq!(read.select(&["tumor core".to_owned()]).unwrap(), scheme);
    }
}
