/** The content of a pipeline or a stage. */
class Section {
  String name
  String agent
  Closure when
  Closure steps
  List<Section> stages = []
  Map<String, Closure> post = [:]
  Map<String, Object> options = [:]
  Map<String, String> environment = [:]

  Map outline() {
    [name: name, agent: agent, options: options, environment: environment, conditional: when != null,
     post: post.keySet(), stages: stages*.outline()]
  }
}
