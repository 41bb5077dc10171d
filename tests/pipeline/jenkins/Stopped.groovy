/** Somebody stopped the build, or its time was over. */
class Stopped extends RuntimeException {
  Stopped(String why) { super(why) }
}
