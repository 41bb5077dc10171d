/**
 * Reads a declarative Jenkinsfile. It knows only the sections and options of this project's file, so that a misspelled one
 * is an error here and not first in a build.
 */
class Declarative {
  /** Returns the pipeline. `environment` are the variables of Jenkins and its agents; the file reads them from `env`. */
  static Section read(File file, Map<String, String> environment) {
    Section pipeline = new Section()
    Binding binding = new Binding([pipeline: { Closure body -> within(new SectionReader(pipeline, environment), body) }])
    new GroovyShell(Declarative.classLoader, binding).evaluate(file)
    pipeline
  }

  /** Whether `when` holds on this branch; true without `when`. */
  static boolean holds(Section section, String branch) {
    Condition condition = new Condition(branch)
    if (section.when != null) within(condition, section.when)
    condition.holding
  }

  /** Calls the body with the methods of the delegate only. */
  static Object within(Object delegate, Closure body) {
    Closure copy = (Closure) body.clone()
    copy.delegate = delegate
    copy.resolveStrategy = Closure.DELEGATE_ONLY
    copy.call()
  }

  private static class SectionReader {
    private final Section section
    private final Map<String, String> variables
    SectionReader(Section section, Map<String, String> variables) { this.section = section; this.variables = variables }
    String getNone() { 'none' }
    String getAny() { 'any' }
    void agent(String which) { section.agent = which }
    void agent(Closure body) { within(new AgentReader(section), body) }
    void options(Closure body) { within(new OptionReader(section.options), body) }
    void environment(Closure body) { within(new EnvironmentReader(section.environment, variables), body) }
    void when(Closure body) { section.when = body }
    void steps(Closure body) { section.steps = body }
    void stages(Closure body) { within(new StagesReader(section, variables), body) }
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
    Map logRotator(Map arguments) { arguments }
    void timestamps() { options.timestamps = true }
    void disableConcurrentBuilds() { options.disableConcurrentBuilds = true }
    void buildDiscarder(Map rotator) { options.buildDiscarder = rotator }
    void timeout(Map arguments) { options.timeout = arguments }
  }

  private static class EnvironmentReader {
    private final Map<String, String> values
    private final Map<String, String> variables
    EnvironmentReader(Map<String, String> values, Map<String, String> variables) { this.values = values; this.variables = variables }
    Map<String, String> getEnv() { variables }
    @Override void setProperty(String name, Object value) { values.put(name, value.toString()) }
  }

  private static class StagesReader {
    private final Section section
    private final Map<String, String> variables
    StagesReader(Section section, Map<String, String> variables) { this.section = section; this.variables = variables }
    void stage(String name, Closure body) {
      Section stage = new Section(name: name)
      within(new SectionReader(stage, variables), body)
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
