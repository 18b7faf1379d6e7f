/** The version of the whole project; a test holds it against package.json and native/Cargo.toml. */
export const VERSION = '0.1.0';
