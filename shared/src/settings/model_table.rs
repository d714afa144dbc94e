//! The user's own rows of the table of models.
//!
//! It must not know what a row means; [`crate::model_table`] does.

use super::errors::Mistake;
use super::reader::Reader;
use super::setting::Setting;
use super::variables;
use crate::model_table::ModelTable;

static FLAG: Setting = Setting::new("--model-table", &[&variables::QA_MODEL_TABLE]);
/// A program may have the variable only; then messages name it.
static VARIABLE: Setting = Setting::variable(&[&variables::QA_MODEL_TABLE]);

/// Reads the table of models: the user's rows, if a file is named, before the built-in ones.
pub fn read_model_table(reader: &mut Reader<'_>, flag: Option<&str>) -> ModelTable {
    let setting = if flag.is_some() { &FLAG } else { &VARIABLE };
    let Some((path, text)) = reader.file_text(setting, flag) else { return ModelTable::default() };
    ModelTable::with_rows(&text).unwrap_or_else(|error| {
        let mistake = Mistake::new(setting, format!("the model table `{}`: {error}", path.display()));
        reader.mistake(mistake.remedy(format!("write a JSON list of rows such as {ROW}")));
        ModelTable::default()
    })
}

/// A row as a user could write it.
const ROW: &str = r#"[{"service": "openai", "model": "gpt-5*", "price": {"input": 1.25, "output": 10}}]"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NanoUsd, Provider};
    use crate::settings::Environment;

    /// The price of a million prompt tokens by a table with these rows, or the mistake.
    fn read(rows: &str) -> Result<NanoUsd, String> {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("models.json");
        std::fs::write(&path, rows).unwrap();
        let environment = Environment::from_pairs([("QA_MODEL_TABLE", path.to_str().unwrap())]);
        let mut reader = Reader::new(&environment);
        let table = read_model_table(&mut reader, None);
        let (table, ..) = reader.finish(table).map_err(|mistakes| mistakes.to_string())?;
        Ok(table.price(Provider::Local, "mine").unwrap().at_most(1_000_000, 0))
    }

    #[test]
    fn a_users_price_beats_ours() {
        let rows = r#"[{"service": "ollama", "model": "mine", "price": {"input": 2, "output": 3}}]"#;
        assert_eq!(read(rows), Ok(NanoUsd(2_000_000_000)));
        assert_eq!(read("[]"), Ok(NanoUsd(0)));
    }

    #[test]
    fn a_mistake_names_file_row_and_field() {
        for (rows, part) in [
            (r#"[{"service": "ollama", "model": "mine", "prise": 1}]"#, "unknown field `prise`"),
            (r#"[{"service": "ollama", "model": ""}]"#, "row 1 (model ``): its model is empty"),
            ("{", "at line 1"),
        ] {
            let error = read(rows).unwrap_err();
            assert!(error.contains("QA_MODEL_TABLE: the model table `"), "{error}");
            assert!(error.contains("models.json`: ") && error.contains(part), "{error}");
            assert!(error.contains("write a JSON list of rows such as"), "{error}");
        }
    }
}
