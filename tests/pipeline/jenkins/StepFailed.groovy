/** A step failed, and with it the build. */
class StepFailed extends RuntimeException {
  StepFailed(String why) { super(why) }
}
