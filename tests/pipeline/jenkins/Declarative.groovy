/**
 * Reads a declarative Jenkinsfile. It knows the sections and options that ours uses and no others, so that a misspelled one
 * is an error here and not in a build.
 */
class Declarative {
  /** The pipeline. `environment` is what Jenkins and its agent know before the build, which the file may ask for by `env`. */
  static Section read(File file, Map<String, String> environment) {
    Section pipeline = new Section()
    Binding binding = new Binding([pipeline: { Closure body -> within(new SectionReader(pipeline, environment), body) }])
    new GroovyShell(Declarative.classLoader, binding).evaluate(file)
    pipeline
  }

  /** Does `when` hold on this branch? Without one it does. */
  static boolean holds(Section section, String branch) {
    Condition condition = new Condition(branch)
    if (section.when != null) within(condition, section.when)
    condition.holding
  }

  /** Calls the body with the delegate's methods and no others. */
  static Object within(Object delegate, Closure body) {
    Closure own = (Closure) body.clone()
    own.delegate = delegate
    own.resolveStrategy = Closure.DELEGATE_ONLY
    own.call()
  }

  private static class SectionReader {
    private final Section section
    private final Map<String, String> known
    SectionReader(Section section, Map<String, String> known) { this.section = section; this.known = known }
    String getNone() { 'none' }
    String getAny() { 'any' }
    void agent(String which) { section.agent = which }
    void agent(Closure body) { within(new AgentReader(section), body) }
    void options(Closure body) { within(new OptionReader(section.options), body) }
    void environment(Closure body) { within(new EnvironmentReader(section.environment, known), body) }
    void when(Closure body) { section.when = body }
    void steps(Closure body) { section.steps = body }
    void stages(Closure body) { within(new StagesReader(section, known), body) }
    void post(Closure body) { within(new PostReader(section.post), body) }
  }

  private static class AgentReader {
    private final Section section
    AgentReader(Section section) { this.section = section }
    void label(String label) { section.agent = label }
  }

  private static class OptionReader {
    private final Map<String, Object> options
    OptionReader(Map<String, Object> options) { this.options = options }
    Map logRotator(Map given) { given }
    void timestamps() { options.timestamps = true }
    void disableConcurrentBuilds() { options.disableConcurrentBuilds = true }
    void buildDiscarder(Map rotator) { options.buildDiscarder = rotator }
    void timeout(Map given) { options.timeout = given }
  }

  private static class EnvironmentReader {
    private final Map<String, String> values
    private final Map<String, String> known
    EnvironmentReader(Map<String, String> values, Map<String, String> known) { this.values = values; this.known = known }
    Map<String, String> getEnv() { known }
    @Override void setProperty(String name, Object value) { values.put(name, value.toString()) }
  }

  private static class StagesReader {
    private final Section section
    private final Map<String, String> known
    StagesReader(Section section, Map<String, String> known) { this.section = section; this.known = known }
    void stage(String name, Closure body) {
      Section stage = new Section(name: name)
      within(new SectionReader(stage, known), body)
      if (stage.steps == null && stage.stages.empty) throw new IllegalStateException("stage ${name} does nothing")
      section.stages.add(stage)
    }
  }

  private static class PostReader {
    private final Map<String, Closure> post
    PostReader(Map<String, Closure> post) { this.post = post }
    void always(Closure body) { post.always = body }
    void success(Closure body) { post.success = body }
    void failure(Closure body) { post.failure = body }
    void aborted(Closure body) { post.aborted = body }
    void unsuccessful(Closure body) { post.unsuccessful = body }
    void cleanup(Closure body) { post.cleanup = body }
  }

  private static class Condition {
    private final String branchName
    boolean holding = true
    Condition(String branchName) { this.branchName = branchName }
    void beforeAgent(boolean first) { }
    void branch(String name) { holding = holding && branchName == name }
    void changeRequest() { holding = holding && branchName.startsWith('PR-') }
    void not(Closure body) {
      Condition inner = new Condition(branchName)
      within(inner, body)
      holding = holding && !inner.holding
    }
  }
}
