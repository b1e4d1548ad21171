//! The shared files: sections with names, and settings in them.

/// The settings of a section.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Section {
    pub id: Option<String>,
    pub secret: Option<String>,
    pub token: Option<String>,
    pub region: Option<String>,
}

/// Looks for a section. `[name]` in a file of credentials, `[profile name]` or `[default]` in one of
/// settings. What stands behind a value belongs to it, comments too; so do signs of equality.
pub fn section(text: &str, header: &str) -> Option<Section> {
    let mut found: Option<Section> = None;
    let mut is_it = false;
    for line in text.lines() {
        let line = line.trim_end();
        if line.starts_with(['#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            let name: Vec<&str> = name.split_whitespace().collect();
            is_it = name.join(" ") == header;
            if is_it {
                found.get_or_insert_default();
            }
            continue;
        }
        // Lines that are moved in belong to a setting with parts.
        if !is_it || line.starts_with([' ', '\t']) {
            continue;
        }
        let (Some(found), Some((key, value))) = (&mut found, line.split_once('=')) else {
            continue;
        };
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match key.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => found.id = value,
            "aws_secret_access_key" => found.secret = value,
            "aws_session_token" => found.token = value,
            "region" => found.region = value,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_as_the_other_tools_read_it() {
        let text = "# mine\r\n[default]\r\naws_access_key_id = A\r\naws_secret_access_key=a=b # c\r\n\
                    [ gw ]\nAWS_ACCESS_KEY_ID=B\nregion = eu-west-1\ns3 =\n  region = us-east-1\n\
                    [profile gw]\naws_access_key_id=C\n";
        let default = section(text, "default").unwrap();
        assert_eq!(default.id.as_deref(), Some("A"));
        assert_eq!(default.secret.as_deref(), Some("a=b # c"));
        let gw = section(text, "gw").unwrap();
        assert_eq!((gw.id.as_deref(), gw.secret), (Some("B"), None));
        assert_eq!(gw.region.as_deref(), Some("eu-west-1"));
        assert_eq!(
            section(text, "profile gw").unwrap().id.as_deref(),
            Some("C")
        );
        assert_eq!(section(text, "other"), None);
    }
}
