// The version of Apus.

/// The version in the form `major.minor.patch`; `tools/python/apus/_version.py` has the same.
public enum ApusVersion {
  public static let text = "0.1.0"
}
