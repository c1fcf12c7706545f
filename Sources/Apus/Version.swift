// The version of Apus.

/// The version in the form `major.minor.patch`.
public enum ApusVersion {
  public static let text = "0.1.0"
}
