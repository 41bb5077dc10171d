/** Somebody stopped the build, or a timeout was exceeded. */
class Stopped extends RuntimeException {
  Stopped(String why) { super(why) }
}
