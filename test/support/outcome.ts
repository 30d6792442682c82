/** What was made, or the text of the error. */
export function outcome(make: () => object): object | string {
  try {
    return make();
  } catch (error) {
    return String(error);
  }
}
