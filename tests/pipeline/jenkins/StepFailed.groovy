/** A step failed: the build does. */
class StepFailed extends RuntimeException {
  StepFailed(String why) { super(why) }
}
